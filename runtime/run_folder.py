"""A run's folder: create, open, lock and clean it."""

import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import version
from itertools import count
from os.path import expanduser
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from fastai.torch_core import num_distrib, rank_distrib

from runtime.console import say
from runtime.errors import UserError, printable
from runtime.files import fingerprint, remove_parts, write_json
from runtime.processes import on_rank0

try:
    import fcntl
except ImportError:  # on Windows, folders are not locked
    fcntl = None


ROOMS = 'config', 'data', 'models', 'callbacks', 'training', 'interpret', 'runtime'
LIBRARIES = (
    'fastai', 'fastcore', 'torch', 'torchvision', 'albumentations', 'albucore', 'numpy', 'pandas', 'pillow',
    'scikit-learn',
)  # fmt: skip


def refuse_name(out: str | Path, name: str | None) -> None:
    """Raise UserError if no run can be created as `out`/`name`: it isn't the name of one folder, or it is taken."""
    if name is None:
        return
    if Path(name).name != name or name == '..' or len(os.fsencode(name)) > 255:
        raise UserError(f'--name {name}: must be one folder name of at most 255 bytes; --out sets where it goes')
    if (run := Path(expanduser(out)) / name).exists():
        raise UserError(f'{run} exists: choose another --name, or continue it with --resume {run}')


def new_run(out: str | Path, name: str | None, config: dict) -> Path:
    """Create `out`/`name` (default: a time stamp) with its config.json, atomically; UserError if that fails."""
    refuse_name(out, name)
    out, stamp = Path(expanduser(out)), datetime.now().strftime('%Y%m%d-%H%M%S')
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out, prefix='.new-') as tmp:
            new = Path(tmp) / 'run'  # unlike `tmp`, readable by other users
            (new / 'models').mkdir(parents=True)
            write_json(new / 'config.json', config)
            for i in count(1):
                run = out / (name or (stamp if i == 1 else f'{stamp}-{i}'))  # two runs may start in the same second
                if not run.exists():
                    return new.rename(run)
                refuse_name(out, name)
    except OSError as e:
        raise UserError(f"can't create a run in {out} ({e.strerror}): choose another --out") from e


def open_run(run: str | Path) -> Path:
    """Return the folder of an untrusted run; UserError naming a symbolic link or special file in it.

    Writing through a link would change a file outside the run. `run` itself may be a link. W&B creates links in wandb/
    to its latest log, so links directly in wandb/ may point to files in wandb/.
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
                        raise UserError(f'{entry.path} is a link, and links in a run are not followed: use a copy')
                elif not entry.is_file(follow_symlinks=False):
                    raise UserError(f'{entry.path} is a pipe, socket or device: remove it from the run')
    return run


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Lock `run` for this process; UserError if another process has locked it.

    Uses `lockf`: DataLoader workers, which outlive a killed process, would inherit a `flock`. Uses a separate file,
    since closing any descriptor of the locked file releases the lock.
    """
    if fcntl is None or rank_distrib():  # rank 0 holds it for all
        yield
        return
    # in an untrusted run .lock may be a link, whose target must not be touched, or a pipe, where opening would block
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


def environment() -> dict:
    """Everything that a run's results depend on besides its options: versions, code and device."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    processes = f'{num_distrib()} x ' if num_distrib() > 1 else ''
    here = Path(__file__).parents[1]
    code = [*here.glob('*.py'), *(file for room in ROOMS for file in (here / room).rglob('*.py'))]
    return {
        'python': sys.version.split()[0],
        **{library: version(library) for library in LIBRARIES},
        'commit': _git_commit(here),
        'code': fingerprint(here, sorted(code)),
        'device': processes + (gpu or f'cpu, {torch.get_num_threads()} threads'),
    }


@on_rank0
def remove_leftovers(run: Path) -> None:
    """Remove files that killed processes left in `run`: half-written files, and the weights saved by an LR sweep."""
    remove_parts(run)
    for folder in run.glob('models/tmp*'):
        with suppress(OSError):  # a folder with other files isn't a sweep's
            (folder / '_tmp.pth').unlink(missing_ok=True)
            folder.rmdir()


def _git_commit(here: Path) -> str | None:
    """The commit of the code in `here`, with a + if there are uncommitted changes."""
    git = ['git', '-C', str(here), 'describe', '--always', '--abbrev=40', '--dirty=+', '--exclude=*']
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def name_changes(before: dict[str, str | None]) -> None:
    """Print each part of the environment that differs from `before`, the environment in which the run began."""
    now = environment()
    for name in now:
        if now[name] != before.get(name):
            print(printable(f'changed since the run began: {name}, {before.get(name)} -> {now[name]}'))


@contextmanager
def resume_hint(run: Path) -> Iterator[None]:
    """Print the command to resume `run` if it is interrupted or ends with a system error."""
    try:
        yield
    except (KeyboardInterrupt, OSError, RuntimeError, MemoryError):
        launch = 'accelerate launch' if num_distrib() > 1 else 'python'
        if not rank_distrib():
            say(printable(f'to resume: {launch} train_fastai.py --resume {shlex.quote(str(run))}'), file=sys.stderr)
        raise
