"""Decode all images of a data set once, into a memory-mapped file."""

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
from fastai.vision.all import chunked, defaults, fastai_path

from data.decode import open_rgb
from data.limits import BadImage
from runtime.errors import printable
from runtime.files import fingerprint, remove_parts, replacing
from runtime.progress import progress

SHARE = 1 / 4  # of the machine's memory: a larger file would be read from the disk in each epoch

CHUNK = 500  # files that a process decodes at once: about 0.1 s for small images


@dataclass
class Pixels:
    """The `rows` of a file of decoded images; indexing loads uint8, N x 3 x H x W, into memory."""

    file: Path
    rows: np.ndarray

    @cached_property
    def images(self) -> np.ndarray:
        """The whole file, mapped: only indexed images are read from the disk."""
        return np.lib.format.open_memmap(self.file, 'r')

    def __getitem__(self, idxs: list[int]) -> np.ndarray:
        return self.images[self.rows[idxs]]

    def __getstate__(self) -> dict:
        """Leave out the images: each worker opens the file itself."""
        return {'file': self.file, 'rows': self.rows}


def decoded(root: Path, files: list[Path], size: tuple[int, int]) -> Path | None:
    """Return a .npy file, uint8, N x 3 x H x W, of the images `files` below `root`, each of `size` (height, width).

    The file stays in fastai's data folder, named by a fingerprint of the images and Pillow's version. It ends in a
    checksum: a truncated, damaged or foreign file is written again. Prints the reason and returns None if it would take
    more than a quarter of the memory, if an image has another size, or if the file can't be written.
    """
    shape = len(files), 3, *size
    if math.prod(shape) > SHARE * _memory():
        gib = math.prod(shape) / 2**30
        print(f'images are decoded in each epoch: all take {gib:.1f} GiB, over {SHARE:.0%} of memory')
        return None
    try:
        file = fastai_path('data') / 'pixels' / f'{fingerprint(root, files)}-pillow{PIL.__version__}.npy'
        if not _is_good(file, shape):
            remove_parts(file.parent, 86_400)  # another process may still be writing a newer one
            with replacing(file) as part:
                _write(part, files, shape)
                with part.open('ab') as f:
                    f.write(_checksum(part, file.stem))
    except (OSError, OtherSizeError, BadImage, BrokenExecutor) as e:
        print(printable(f'images are decoded in each epoch: {e}'))
        return None
    return file


class OtherSizeError(ValueError):
    """An image differs in size from the others."""


def _write(part: Path, files: list[Path], shape: tuple[int, ...]) -> None:
    """Decode `files` into the array `part`, using all cores if there are many files."""
    images = np.lib.format.open_memmap(part, 'w+', np.uint8, shape)
    if hasattr(os, 'posix_fallocate'):  # a full disk raises OSError here; writing to the map would be a SIGBUS
        with part.open('rb+') as f:
            os.posix_fallocate(f.fileno(), 0, images.offset + images.size)
    chunks = chunked(list(enumerate(files)), CHUNK)
    decode = partial(_decode, part)
    # without fork, a script that lacks the `__name__` guard would run again in each process
    if len(files) <= CHUNK or sys.platform != 'linux':
        for chunk in progress(list(chunks), 'decoding images'):
            decode(chunk)
        return
    with ProcessPoolExecutor(defaults.cpus, get_context('fork'), _init_decoder) as pool:
        try:
            for future in progress([pool.submit(decode, chunk) for chunk in chunks], 'decoding images'):
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _init_decoder() -> None:
    """Ignore Ctrl-C, which the parent handles, and die if the parent is killed (Linux's PR_SET_PDEATHSIG)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _decode(part: Path, files: list[tuple[int, Path]]) -> None:
    images = np.lib.format.open_memmap(part, 'r+')
    for i, file in files:
        pixels = np.asarray(open_rgb(file)).transpose(2, 0, 1)
        if pixels.shape != images.shape[1:]:
            raise OtherSizeError(f'{file} differs in size from the rest')
        images[i] = pixels


def _is_good(file: Path, shape: tuple[int, ...]) -> bool:
    """Whether `file` is complete and matches its name. Reads all of it, which also brings it into memory."""
    try:
        images = np.lib.format.open_memmap(file, 'r')  # never unpickles, unlike np.load
        with file.open('rb') as f:
            f.seek(-hashlib.sha256().digest_size, os.SEEK_END)
            end, expected = f.tell(), f.read()
    except (OSError, ValueError):  # missing; not an array, or shorter than its header says
        return False
    as_expected = images.dtype == np.uint8 and images.shape == shape and images.offset + images.size == end
    return as_expected and _checksum(file, file.stem, end) == expected


def _checksum(file: Path, name: str, end: float = math.inf) -> bytes:
    """Return the SHA-256 of `name` and of the first `end` bytes of `file`."""
    digest = hashlib.sha256(name.encode())
    with file.open('rb') as f:
        while block := f.read(int(min(2**20, end - f.tell()))):
            digest.update(block)
    return digest.digest()


def _memory() -> int:
    """Return the machine's memory in bytes; 8 GiB if unknown (Windows)."""
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') if hasattr(os, 'sysconf') else 2**33
