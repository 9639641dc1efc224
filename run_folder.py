"""A run's folder: made once, described in JSON, written atomically."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from itertools import count
from os.path import expanduser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.torch_core import num_distrib, rank_distrib

from atomic import remove_parts, replacing
from errors import UserError
from fingerprint import fingerprint
from ranks import gathered, rank0
from recipes import Recipe

try:
    import fcntl
except ImportError:  # on Windows, where a folder isn't locked
    fcntl = None

LIBRARIES = (
    'fastai', 'fastcore', 'torch', 'torchvision', 'albumentations', 'albucore', 'numpy', 'pandas', 'pillow',
    'scikit-learn',
)  # fmt: skip


def new_run(out: str | Path, name: str | None, config: dict) -> Path:
    """Make `out`/`name` (default: a time stamp) with its config.json, all at once; UserError where that can't be."""
    if name is not None and (Path(name).name != name or name == '..' or len(os.fsencode(name)) > 255):
        raise UserError(f'--name {name}: one folder name of at most 255 bytes, without /; --out says where it goes')
    out, stamp = Path(expanduser(out)), datetime.now().strftime('%Y%m%d-%H%M%S')
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out, prefix='.new-') as tmp:
            new = Path(tmp) / 'run'  # unlike `tmp` itself, readable by others
            (new / 'models').mkdir(parents=True)
            write_json(new / 'config.json', config)
            for i in count(1):
                run = out / (name or (stamp if i == 1 else f'{stamp}-{i}'))  # two can begin in one second
                if not run.exists():
                    return new.rename(run)
                if name:
                    raise UserError(f'{run} exists: choose another --name, or go on with it: --resume {run}')
    except OSError as e:
        raise UserError(f"{out} can't have a new run ({e.strerror}): choose another --out") from e


def open_run(run: str | Path) -> Path:
    """The folder of a run that may come from a stranger; UserError, by name, for a link or special file below it.

    What is written there would go to where a link leads. `run` itself may be a link. In wandb/, where W&B has links of
    its own to its latest log, a link may lead to what is in wandb/, too.
    """
    run = Path(expanduser(run))
    real = os.path.realpath(run)
    folders, tracker = [real] if run.is_dir() else [], os.path.join(real, 'wandb')
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_symlink():
                    if folder != tracker or not Path(os.path.realpath(entry)).is_relative_to(tracker):
                        raise UserError(f'{entry.path} is a link, which is not followed in a run: put a copy there')
                elif not entry.is_file(follow_symlinks=False):
                    raise UserError(f'{entry.path} is a pipe, socket or device: a run has none, remove it')
    return run


def begin(learn: Learner, options: dict[str, Any], recipe: Recipe) -> Path:
    """A new run folder, whose config.json says all that the run is made of."""
    dls = learn.dls
    images = fingerprint_images(dls)
    if len({*gathered(images)}) > 1:
        raise UserError(f'{dls.path} has not the same images on all machines: copy them from one')
    model = {'recipe': asdict(recipe), 'classes': list(dls.vocab), 'size': dls.size, 'resized': dls.resized}
    begun = {'images': images, 'left_out': len(dls.left_out), 'surroundings': surroundings()}
    return rank0(new_run, options['out'], options['name'], {'options': options, **model, **begun})


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Be the only process that writes to `run`; UserError where another one does.

    By `lockf`: `flock` would stay with the loader's workers, which outlive a killed process. On a file of its own, as
    the lock goes when the process closes the file, however often it had opened it.
    """
    if fcntl is None or rank_distrib():  # rank 0 holds it for all
        yield
        return
    # a stranger's .lock may be a link, whose target isn't to be touched, or a pipe, whose opening would wait
    lock = os.open(run / '.lock', os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            raise UserError(f'{run / ".lock"} is a pipe or device: remove it')
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise UserError(f'{run} is in use by another process: wait for it, or stop it') from e
        yield
    finally:
        os.close(lock)


def write_json(path: Path, content: dict) -> None:
    """Write `content` to `path`: the whole of it, or nothing."""
    with replacing(path) as part:
        text = json.dumps(content, indent=2, ensure_ascii=False) + '\n'
        part.write_text(text, encoding='utf-8', errors='backslashreplace')  # as JSON has it, where a name isn't UTF-8


def surroundings() -> dict:
    """What a run's numbers depend on besides its options: versions, code and device."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    processes = f'{num_distrib()} x ' if num_distrib() > 1 else ''
    here = Path(__file__).parent
    code = [file for folder in ('.', 'callbacks', 'data', 'interpret') for file in (here / folder).glob('*.py')]
    return {
        'python': sys.version.split()[0],
        **{library: version(library) for library in LIBRARIES},
        'commit': _git_commit(here),
        'code': fingerprint(here, sorted(code)),
        'device': processes + (gpu or f'cpu, {torch.get_num_threads()} threads'),
    }


def remove_leftovers(run: Path) -> None:
    """Remove what killed processes left in `run`: half-written files, and the weights that a sweep puts aside."""
    remove_parts(run)
    for folder in run.glob('models/tmp*'):
        with suppress(OSError):  # with anything else in it, it isn't from a sweep
            (folder / '_tmp.pth').unlink(missing_ok=True)
            folder.rmdir()


def fingerprint_images(dls: DataLoaders) -> str:
    """Of all the images of a run, and of how they are split; kept in `dls`, as it reads all files."""
    if 'fingerprint' not in vars(dls):
        dls.fingerprint = fingerprint(dls.path, [file for dl in dls.loaders for file in dl.dataset.items])
    return dls.fingerprint


def _git_commit(here: Path) -> str | None:
    """The commit of the code in `here`, with a + where it was changed since."""
    git = ['git', '-C', str(here), 'describe', '--always', '--abbrev=40', '--dirty=+', '--exclude=*']
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
