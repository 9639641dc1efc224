"""From what `--data` says to checked images: CIFAR-10, the bundled digits, or the user's own folder or archive."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from os.path import expanduser
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from fastai.data.external import URLs, fastai_path, untar_data
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from bars import without_bars_in_logs
from data.archives import FULL, unpack
from data.checks import Images, check_images
from data.layout import WAYS_OUT, unwrapped
from errors import UserError, printable

__all__ = ['Images', 'find_images', 'get_source']


def find_images(data: str | Path, skip_bad: bool = False, size: int | None = None) -> Images:
    """The checked images of `data`: `get_source` says what that may be, `check_images` what is refused."""
    return check_images(get_source(data), skip_bad, size)


def get_source(data: str | Path) -> Path:
    """The folder that `data` names: 'cifar10', 'digits', or the path of a folder or of a .tgz of one.

    A folder called digits is './digits'. What is downloaded, written or unpacked stays in fastai's data folder.
    Raises `UserError` if there is no such place, or if nothing can be got out of it.
    """
    if data == 'cifar10':
        return _cifar10()
    if data == 'digits':
        return _once(fastai_path('data') / 'digits16', _write_digits)
    path = Path(expanduser(data))
    if path.is_dir():
        return path
    if path.is_file():
        return _unpacked(path)
    raise UserError(f'{printable(path)} is neither a folder nor a file: {WAYS_OUT}')


def _cifar10() -> Path:
    """CIFAR-10 from fast.ai's mirror.

    fastai compares the archive's size and the MD5 of its first megabyte, and no hash of the whole is published: so the
    files are counted here, and `check_images` decodes them, which compares each PNG's own checksums.
    """
    archive = fastai_path('archive') / 'cifar10.tgz'  # a damaged one has to go, or fastai would unpack it again
    if not (fastai_path('data') / 'cifar10').exists():
        print('downloading CIFAR-10, 135 MB')
    try:
        with without_bars_in_logs():
            path = untar_data(URLs.CIFAR)
    except Exception as e:  # the network's, fastai's plain Exception for a wrong hash, or the unpacker's
        archive.unlink(missing_ok=True)
        raise UserError(f"CIFAR-10 isn't in {fastai_path('data')} and can't be downloaded ({e}): {WAYS_OUT}") from e
    n_train, n_test = (len(list(path.glob(f'{split}/*/[!.]*'))) for split in ('train', 'test'))
    if (n_train, n_test) != (50_000, 10_000):
        archive.unlink(missing_ok=True)
        raise UserError(f'{path} has {n_train} + {n_test} images, CIFAR-10 50000 + 10000: rename it, and run again')
    return path


def _write_digits(folder: Path) -> Path:
    """Write scikit-learn's 1,797 digits as <split>/<digit>/<index>.png, a fifth of each digit in test.

    Each of the 8x8 pixels becomes 2x2 equal ones: 16x16 is the least the network takes, and no grey is invented.
    """
    digits = load_digits()
    pixels = np.round(digits.images * 255 / 16).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    _, test = train_test_split(range(len(pixels)), test_size=0.2, stratify=digits.target, random_state=0)
    for i, (image, digit) in enumerate(zip(pixels, digits.target, strict=True)):
        file = folder / ('test' if i in test else 'train') / str(digit) / f'{i:04}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).convert('RGB').save(file)
    return folder


def _unpacked(archive: Path) -> Path:
    """The folder that `archive` was unpacked to, named by its content: a changed archive gets a new one."""
    digest = hashlib.sha256()
    with archive.open('rb') as f:
        for block in iter(partial(f.read, 2**20), b''):
            digest.update(block)
    stem = os.fsencode(archive.name.partition('.')[0])[:100].decode(errors='ignore')  # with the rest at most 255 bytes
    name = f'{stem}-{digest.hexdigest()[:16]}'
    return _once(fastai_path('data') / name, partial(_unpack, archive))


def _unpack(archive: Path, folder: Path) -> Path:
    """Unpack `archive` into `folder`; return the folder with train/ or the classes, which may be wrapped in others."""
    unpack(archive, folder)
    if root := unwrapped(folder):
        return root
    raise UserError(f'{printable(archive)} has neither train/<class>/ nor two <class>/ inside: {WAYS_OUT}')


def _once(folder: Path, write: Callable[[Path], Path]) -> Path:
    """`folder`, which unless it exists becomes the one that `write` returns after filling an empty folder.

    It appears whole or not at all, also if the process is killed or another one writes the same.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}-') as tmp:
            new = Path(tmp) / 'new'  # unlike `tmp` itself, readable by others
            new.mkdir()
            done = write(new)
            try:
                done.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster
                    raise
    except OSError as e:
        if e.errno not in FULL:
            raise
        home = 'free some space, or let FASTAI_HOME name a folder on another disk'
        raise UserError(f'the disk of {printable(folder.parent)} is full: {home}') from e
    return folder
