"""A run's folder: made once, described in JSON, written atomically."""

import hashlib
import json
import os
import subprocess
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import torch

from atomic import replacing
from errors import UserError

LIBRARIES = 'fastai', 'fastcore', 'torch', 'torchvision', 'albumentations', 'numpy', 'pandas', 'pillow'


def new_run(out: str | Path, name: str | None = None) -> Path:
    """Make `out`/`name` (default: a time stamp) with its `models` folder; UserError where that can't be."""
    name = name or datetime.now().strftime('%Y%m%d-%H%M%S')
    if Path(name).name != name or name == '..':
        raise UserError(f'--name {name}: one folder name, without /; --out says where it goes')
    run = Path(out).expanduser() / name
    try:
        run.mkdir(parents=True)
        (run / 'models').mkdir()
    except FileExistsError as e:
        raise UserError(f'{run} exists: choose another --name, or delete it') from e
    except OSError as e:
        raise UserError(f"{run} can't be made ({e.strerror}): choose another --out") from e
    return run


def write_json(path: Path, content: dict) -> None:
    """Write `content` to `path`: the whole of it, or nothing."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')


def surroundings() -> dict:
    """What a run's numbers depend on besides its options: versions, commit and device."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        'python': sys.version.split()[0],
        **{library: version(library) for library in LIBRARIES},
        'commit': _git_commit(),
        'device': gpu or f'cpu, {torch.get_num_threads()} threads',
    }


def fingerprint(root: Path, files: list[Path]) -> str:
    """SHA-256 over the names and contents of `files` below `root`, in their order."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        name = os.fsencode(file.relative_to(root).as_posix())  # which need not be UTF-8
        digest.update(name + f'\0{len(content)}\0'.encode() + content)
    return digest.hexdigest()


def _git_commit() -> str | None:
    """The commit of this code, with a + where it was changed since."""
    try:
        git = [
            'git',
            '-C',
            str(Path(__file__).parent),
            'describe',
            '--always',
            '--abbrev=40',
            '--dirty=+',
            '--exclude=*',
        ]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
