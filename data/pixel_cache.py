"""Keep the results of checking images, and their pixels, on the disk.

Each folder of images has one file in fastai's data folder, named by a hash of the folder's path: an uncompressed zip
archive of the results as JSON, by the SHA-256 of an image's content, and of the pixels, which are memory-mapped.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf, prod
from pathlib import Path
from shutil import disk_usage
from typing import BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import cv2
import numpy as np
import PIL
import torch
from fastai.data.external import fastai_path
from PIL import features

from data.sizes import Size, shrunk
from runtime.errors import UserError
from runtime.files import fingerprint, remove_parts, replacing

HERE = Path(__file__).parent
NAMES = 'antialias', 'check_files', 'damage', 'decode', 'jpeg', 'limits', 'pixel_cache', 'sizes'
CODE = [HERE / f'{name}.py' for name in NAMES]

# content's SHA-256; size, or reason of a bad image; pixels, if kept, and the side to which they were shrunk
Result = tuple[str, Size | str, bytes | None, int]
Row = tuple[int, int, int | None, int]  # of `Cache.good`


@dataclass(frozen=True)
class Mapped:
    """The `pixels` in an archive: flat uint8, mapped into memory. `crc` is their CRC-32."""

    file: Path = Path()
    crc: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8), compare=False)

    def __reduce__(self):
        """Leave out the pixels: each worker opens the file itself."""
        return _reopen, (self.file, self.crc)


@dataclass(frozen=True)
class Cache:
    """Results by the SHA-256 of an image's content.

    `bad` has reasons. `good` has rows: height and width, the offset of the pixels (None if they aren't kept), and the
    side to which they were shrunk. Shrunk pixels are stored as H x W x 3; others have side 0 and are 3 x H x W.
    """

    good: dict[str, Row] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    mapped: Mapped = field(default_factory=Mapped)

    def result(self, content: str) -> Result:
        """Return the result of one image, as it was written."""
        if content in self.bad:
            return content, self.bad[content], None, 0
        height, width, start, side = self.good[content]
        n = 3 * prod(shrunk((height, width), side))
        return content, (height, width), None if start is None else self.mapped.pixels[start : start + n], side


@dataclass
class Pixels:
    """Decoded images of one `size` (height, width); indexing loads uint8, N x 3 x H x W, into memory."""

    mapped: Mapped
    offsets: np.ndarray
    size: Size

    def __getitem__(self, idxs: list[int]) -> np.ndarray:
        images = np.lib.stride_tricks.sliding_window_view(self.mapped.pixels, 3 * prod(self.size))
        return images[self.offsets[idxs]].reshape(-1, 3, *self.size)


def load_cache(root: Path) -> Cache:
    """Return the results for the folder `root`; none if there are none, or if the file is damaged or foreign.

    Reads all pixels, which also brings them into memory.
    """
    try:
        return _read(_file(root), root)
    except Exception:  # zipfile raises many types for a broken archive, e.g. NotImplementedError and struct.error
        return Cache()


def write_cache(root: Path, results: Iterable[Result]) -> Cache:
    """Replace the results for the folder `root`, and remove those for folders that are gone. OSError if that fails."""
    file, good, bad, end = _file(root), {}, {}, 0
    with replacing(file) as part:
        with ZipFile(part, 'w') as archive:
            archive.comment = _path(root)
            with archive.open('pixels', 'w', force_zip64=True) as f:
                for content, result, pixels, side in results:
                    if isinstance(result, str):
                        bad[content] = result
                    elif pixels is None:
                        good[content] = *result, None, 0
                    else:
                        good[content] = *result, end, side
                        end += f.write(pixels)
            table = {'made_by': _made_by(), 'good': good, 'bad': bad}
            archive.writestr(ZipInfo('results.json'), json.dumps(table))
        cache = _read(part, root)
    _remove_old(file.parent)
    return replace(cache, mapped=replace(cache.mapped, file=file))


def free_space() -> float:
    """Return the free bytes on the cache's disk; infinite if unknown, since a full disk is noticed in writing too."""
    try:
        folder = _folder()
        return disk_usage(next(parent for parent in (folder, *folder.parents) if parent.is_dir())).free
    except (OSError, StopIteration):
        return inf


def _path(root: Path) -> bytes:
    return os.fsencode(root.resolve())


def _file(root: Path) -> Path:
    return _folder() / f'{hashlib.sha256(_path(root)).hexdigest()[:16]}.zip'


def _folder() -> Path:
    return fastai_path('data') / 'pixels'


def _made_by() -> dict[str, str | None]:
    """What the results depend on, besides the content of the images."""
    jpeg = features.version('libjpeg_turbo')
    versions = {'Pillow': PIL.__version__, 'libjpeg': jpeg, 'OpenCV': cv2.__version__, 'torch': str(torch.__version__)}
    return {**versions, 'code': fingerprint(HERE, CODE)}


def _read(file: Path, root: Path) -> Cache:
    """Read the archive for `root` and verify its checksums; raises nearly anything if it is damaged or foreign."""
    with file.open('rb') as f, ZipFile(f) as archive:
        table = json.loads(archive.read('results.json'))
        if archive.testzip() or archive.comment != _path(root) or table['made_by'] != _made_by():
            raise BadZipFile('damaged, or of another folder or version')
        return Cache(table['good'], table['bad'], _map(f, archive))


def _map(f: BinaryIO, archive: ZipFile) -> Mapped:
    """Map the pixels in `archive`, opened as `f`."""
    info = archive.getinfo('pixels')
    if info.compress_type != ZIP_STORED or info.compress_size != info.file_size:
        raise BadZipFile('compressed')
    f.seek(info.header_offset + 26)  # the lengths of the name and of the extra field, which come before the content
    start = info.header_offset + 30 + sum(struct.unpack('<HH', f.read(4)))
    pixels = np.memmap(f, mode='r', offset=start, shape=info.file_size) if info.file_size else Mapped().pixels
    return Mapped(Path(f.name), info.CRC, pixels)


def _reopen(file: Path, crc: int) -> Mapped:
    with file.open('rb') as f, ZipFile(f) as archive:
        mapped = _map(f, archive)
    if mapped.crc != crc:
        raise UserError(f'{file} has changed: another run has found other images; start again')
    return mapped


def _remove_old(folder: Path) -> None:
    """Remove the results for folders of images that are gone, half-written files, and files of earlier versions."""
    remove_parts(folder, 86_400)  # another process may still be writing a newer one
    for file in folder.glob('*.zip'):
        with suppress(BadZipFile, OSError), ZipFile(file) as archive:
            if not os.path.isdir(archive.comment):
                file.unlink()
    for file in folder.glob('*-pillow*.npy'):
        file.unlink(missing_ok=True)
