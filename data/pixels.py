"""All images of a data set, decoded once, in a file that is mapped into memory."""

import ctypes
import hashlib
import math
import os
import signal
import sys
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import PIL
from fastai.data.external import fastai_path
from fastcore.basics import chunked, defaults

from atomic import remove_parts, replacing
from bars import progress
from data.files import BadImage, open_rgb
from errors import printable
from fingerprint import fingerprint

SHARE = 1 / 4  # of the machine's memory: what is larger would be read from the disk again in each epoch
CHUNK = 500  # files that a process decodes at once, about 0.1 s for small ones


@dataclass
class Pixels:
    """The `rows` of a file of decoded images; indexing with integers gives uint8, N x 3 x H x W, in memory."""

    file: Path
    rows: np.ndarray

    @cached_property
    def images(self) -> np.ndarray:
        """All of the file, which stays on the disk until it's asked for."""
        return np.lib.format.open_memmap(self.file, 'r')

    def __getitem__(self, idxs: list[int]) -> np.ndarray:
        return self.images[self.rows[idxs]]

    def __getstate__(self) -> dict:
        """Without the images: a worker opens the file itself."""
        return {'file': self.file, 'rows': self.rows}


def decoded(root: Path, files: list[Path], size: tuple[int, int]) -> Path | None:
    """A .npy file, uint8 and N x 3 x H x W, of the images `files` below `root`, each of `size` (height, width).

    It stays in fastai's data folder, named by a fingerprint of the images and the version of Pillow, which decodes
    them, and it ends in a checksum: one that is cut off, damaged or another's is made anew. None, with the reason
    printed, where it would take more than a quarter of the memory, an image has another size or it can't be written.
    """
    shape = len(files), 3, *size
    if math.prod(shape) > SHARE * _memory():
        print(
            f'images are decoded in each epoch: all take {math.prod(shape) / 2**30:.1f} GiB, over {SHARE:.0%} of memory'
        )
        return None
    try:
        file = fastai_path('data') / 'pixels' / f'{fingerprint(root, files)}-pillow{PIL.__version__}.npy'
        if not _is_good(file, shape):
            remove_parts(file.parent, 86_400)  # a younger one may be another process's at work
            with replacing(file) as part:
                _write(part, files, shape)
                with part.open('ab') as f:
                    f.write(_checksum(part, file.stem))
    except (OSError, OtherSizeError, BadImage, BrokenExecutor) as e:
        print(printable(f'images are decoded in each epoch: {e}'))
        return None
    return file


class OtherSizeError(ValueError):
    """An image that doesn't fit in with the others."""


def _write(part: Path, files: list[Path], shape: tuple[int, ...]) -> None:
    """Decode `files` into the array `part`, on all processors if there are many."""
    images = np.lib.format.open_memmap(part, 'w+', np.uint8, shape)
    if hasattr(os, 'posix_fallocate'):  # a full disk is an OSError now, where a write to the map would be a SIGBUS
        with part.open('rb+') as f:
            os.posix_fallocate(f.fileno(), 0, images.offset + images.size)
    chunks = chunked(list(enumerate(files)), CHUNK)
    decode = partial(_decode, part)
    # without fork a script that isn't guarded by `__name__` would run again in each process
    if len(files) <= CHUNK or sys.platform != 'linux':
        for chunk in progress(list(chunks), 'decoding images'):
            decode(chunk)
        return
    with ProcessPoolExecutor(defaults.cpus, get_context('fork'), _ends_with_its_parent) as pool:
        try:
            for future in progress([pool.submit(decode, chunk) for chunk in chunks], 'decoding images'):
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _ends_with_its_parent() -> None:
    """Leave a Ctrl-C to the process that decodes, and end where that is killed (Linux's PR_SET_PDEATHSIG)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _decode(part: Path, files: list[tuple[int, Path]]) -> None:
    images = np.lib.format.open_memmap(part, 'r+')
    for i, file in files:
        pixels = np.asarray(open_rgb(file)).transpose(2, 0, 1)
        if pixels.shape != images.shape[1:]:
            raise OtherSizeError(f'{file} has another size than the rest')
        images[i] = pixels


def _is_good(file: Path, shape: tuple[int, ...]) -> bool:
    """Whether `file` is there and whole, and what its name says. Reads all of it, so that it's in memory then."""
    try:
        images = np.lib.format.open_memmap(file, 'r')  # unlike np.load, never anything else
        with file.open('rb') as f:
            f.seek(-hashlib.sha256().digest_size, os.SEEK_END)
            end, expected = f.tell(), f.read()
    except (OSError, ValueError):  # it's not there; not an array, or less than its head says
        return False
    as_said = images.dtype == np.uint8 and images.shape == shape and images.offset + images.size == end
    return as_said and _checksum(file, file.stem, end) == expected


def _checksum(file: Path, name: str, end: float = math.inf) -> bytes:
    """SHA-256 of `name` and of `file` up to `end`."""
    digest = hashlib.sha256(name.encode())
    with file.open('rb') as f:
        while block := f.read(int(min(2**20, end - f.tell()))):
            digest.update(block)
    return digest.digest()


def _memory() -> int:
    """The machine's memory in bytes; 8 GiB where nobody tells (Windows)."""
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') if hasattr(os, 'sysconf') else 2**33
