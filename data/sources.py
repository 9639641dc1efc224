"""From what `--data` says to checked images: CIFAR-10, the bundled digits, or the user's own folder or archive."""

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable
from functools import partial
from os.path import expanduser
from pathlib import Path
from platform import python_version
from tempfile import TemporaryDirectory

import numpy as np
from fastai.data.external import URLs, fastai_path, untar_data
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from bars import without_bars_in_logs
from data.checks import Images, check_images
from data.layout import LAYOUTS, subfolders
from errors import UserError

__all__ = ['Images', 'find_images', 'get_source']

WAYS_OUT = f'pass --data PATH (a folder or .tgz of {LAYOUTS}) or --data digits'

MAX_RATIO = 100  # that an archive may grow by


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
    raise UserError(f'{path} is neither a folder nor a file: {WAYS_OUT}')


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
        raise UserError(f'{path} has {n_train} + {n_test} images, CIFAR-10 50000 + 10000: delete it and run again')
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
    name = f'{archive.name.partition(".")[0]}-{digest.hexdigest()[:16]}'
    return _once(fastai_path('data') / name, partial(_unpack, archive))


class _Gzip(gzip.GzipFile):
    """A gzip file that refuses to be a bomb: images shrink little, zeros to a thousandth."""

    def __init__(self, archive: Path):
        super().__init__(archive)
        self.most = MAX_RATIO * archive.stat().st_size + 2**27

    def read(self, size: int = -1) -> bytes:
        """As GzipFile's, in parts of at most 1 MiB: tarfile asks for a header, however long, at once."""
        if not 0 <= size <= 2**20 or self.tell() > self.most:
            raise tarfile.ReadError(f'it gets more than {MAX_RATIO} times as large: a decompression bomb?')
        return super().read(size)


def _unpack(archive: Path, folder: Path) -> Path:
    """Unpack `archive` into `folder`; return the folder with train/ or the classes, which may be wrapped in another."""
    if not hasattr(tarfile, 'data_filter'):
        raise UserError(
            f'{archive}: this Python, {python_version()}, has no safe way to unpack it (3.10.12 and 3.11.4 have): '
            'unpack it by hand, and pass --data FOLDER'
        )
    try:
        with _Gzip(archive) as f, tarfile.open(fileobj=f, mode='r:') as tar:
            tar.extractall(folder, filter='data')
            while f.read(2**20):  # to the end, where gzip compares its checksum: tarfile takes damage for the end
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError) as e:
        raise UserError(f"{archive} can't be unpacked as .tgz ({e}): {WAYS_OUT}") from e
    for train in [*folder.glob('train'), *folder.glob('*/train')]:
        return train.parent
    for root in [folder, *subfolders(folder)]:
        if len(subfolders(root)) > 1:
            return root
    raise UserError(f'{archive} has neither train/<class>/ nor two <class>/ inside: {WAYS_OUT}')


def _once(folder: Path, write: Callable[[Path], Path]) -> Path:
    """`folder`, which unless it exists becomes the one that `write` returns after filling an empty folder.

    It appears whole or not at all, also if the process is killed or another one writes the same.
    """
    if folder.is_dir():
        return folder
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
    return folder
