"""From the value of `--data` to checked images: CIFAR-10, the bundled digits, or the user's folder or archive."""

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

from data.archives import FULL, unpack
from data.layout import WAYS_OUT, unwrapped
from data.verify import Images, check_images
from runtime.errors import UserError, printable
from runtime.progress import without_bars_in_logs

__all__ = ['Images', 'find_images', 'get_source']


def find_images(data: str | Path, skip_bad: bool = False, size: int | None = None, side: int | None = None) -> Images:
    """Return the checked images of `data`; see `get_source` for its values and `check_images` for the checks."""
    return check_images(get_source(data), skip_bad, size, side)


def get_source(data: str | Path) -> Path:
    """Return the folder for `data`: 'cifar10', 'digits', or the path of a folder or of a .tgz or .zip of a folder.

    Folders that only wrap the data set are skipped. A CSV of files and labels is returned as it is.
    Pass './digits' for a folder called digits. Downloaded, generated and unpacked files stay in fastai's data folder.
    Raises `UserError` if there is no such folder or file, or if it can't be downloaded or unpacked.
    """
    if data == 'cifar10':
        return _cifar10()
    if data == 'digits':
        return _create_once(fastai_path('data') / 'digits16', _write_digits)
    path = Path(expanduser(data))
    if path.is_dir():
        return unwrapped(path) or path
    if path.is_file():
        return path if path.suffix.lower() == '.csv' else _unpack_once(path)
    raise UserError(f'{printable(path)} is neither a folder nor a file: {WAYS_OUT}')


def _cifar10() -> Path:
    """Download CIFAR-10 from fast.ai's mirror.

    fastai checks only the archive's size and the MD5 of its first megabyte; no hash of the whole archive is published.
    So this function counts the files, and `check_images` checks each PNG's checksums.
    """
    archive = fastai_path('archive') / 'cifar10.tgz'  # deleted if damaged: fastai would unpack it again
    if not (fastai_path('data') / 'cifar10').exists():
        print('downloading CIFAR-10, 135 MB')
    try:
        with without_bars_in_logs():
            path = untar_data(URLs.CIFAR)
    except Exception as e:  # a network error, fastai's plain Exception for a wrong hash, or an unpacking error
        archive.unlink(missing_ok=True)
        raise UserError(f"CIFAR-10 isn't in {fastai_path('data')} and can't be downloaded ({e}): {WAYS_OUT}") from e
    n_train, n_test = (len(list(path.glob(f'{split}/*/[!.]*'))) for split in ('train', 'test'))
    if (n_train, n_test) != (50_000, 10_000):
        archive.unlink(missing_ok=True)
        raise UserError(f'{path} has {n_train} + {n_test} images, CIFAR-10 has 50000 + 10000: rename it and run again')
    return path


def _write_digits(folder: Path) -> Path:
    """Write scikit-learn's 1,797 digits as <split>/<digit>/<index>.png, a fifth of each digit in test.

    Each of the 8x8 pixels becomes 2x2 equal pixels: the network needs at least 16x16, and interpolating adds greys.
    """
    digits = load_digits()
    pixels = np.round(digits.images * 255 / 16).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    _, test = train_test_split(range(len(pixels)), test_size=0.2, stratify=digits.target, random_state=0)
    for i, (image, digit) in enumerate(zip(pixels, digits.target, strict=True)):
        file = folder / ('test' if i in test else 'train') / str(digit) / f'{i:04}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).convert('RGB').save(file)
    return folder


def _unpack_once(archive: Path) -> Path:
    """Unpack `archive` unless done before; the folder's name has a hash, so a changed archive gets a new folder."""
    digest = hashlib.sha256()
    with archive.open('rb') as f:
        for block in iter(partial(f.read, 2**20), b''):
            digest.update(block)
    stem = os.fsencode(archive.name.partition('.')[0])[:100].decode(errors='ignore')  # the name has at most 255 bytes
    name = f'{stem}-{digest.hexdigest()[:16]}'
    return _create_once(fastai_path('data') / name, partial(_unpack, archive))


def _unpack(archive: Path, folder: Path) -> Path:
    """Unpack `archive` into `folder`; return the folder inside that has train/ or the classes."""
    unpack(archive, folder)
    if root := unwrapped(folder):
        return root
    raise UserError(f'{printable(archive)} has neither train/<class>/ nor two class folders inside: {WAYS_OUT}')


def _create_once(folder: Path, write: Callable[[Path], Path]) -> Path:
    """Create `folder` unless it exists: `write` fills an empty folder and returns the part of it to keep.

    `folder` appears complete or not at all, even if the process is killed or another process writes the same folder.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}-') as tmp:
            new = Path(tmp) / 'new'  # readable by others, unlike `tmp`
            new.mkdir()
            done = write(new)
            try:
                done.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was faster
                    raise
    except OSError as e:
        if e.errno not in FULL:
            raise
        ways_out = 'free some space, or set FASTAI_HOME to a folder on another disk'
        raise UserError(f'the disk of {printable(folder.parent)} is full: {ways_out}') from e
    return folder
