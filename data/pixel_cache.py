"""Keep the results of checking images, and the pixels of small ones, on the disk.

Each folder of images has two files in fastai's data folder: the results as JSON, by the SHA-256 of an image's content,
and the pixels, flat uint8, memory-mapped.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from secrets import token_hex

import cv2
import numpy as np
import PIL
from fastai.data.external import fastai_path
from PIL import features

from data.sizes import Size
from runtime.files import fingerprint, remove_parts, replacing

HERE = Path(__file__).parent
CODE = [HERE / f'{name}.py' for name in ('check_files', 'damage', 'decode', 'limits', 'pixel_cache')]

Result = tuple[str, Size | str, bytes | None]  # content's SHA-256; size or reason of a bad image; pixels, if kept


@dataclass(frozen=True)
class Cache:
    """Results by the SHA-256 of an image's content.

    `bad` has reasons; `good` has height, width and the offset in `pixels`, None if they aren't kept.
    """

    good: dict[str, tuple[int, int, int | None]] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    pixels: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))  # 3 x height x width for each image

    def result(self, content: str) -> Result:
        """Return the result of one image, as it was written."""
        if content in self.bad:
            return content, self.bad[content], None
        height, width, start = self.good[content]
        return content, (height, width), None if start is None else self.pixels[start : start + 3 * height * width]


@dataclass
class Pixels:
    """Decoded images of one `size` (height, width); indexing loads uint8, N x 3 x H x W, into memory."""

    pixels: np.ndarray  # of a `Cache`
    offsets: np.ndarray
    size: Size

    def __getitem__(self, idxs: list[int]) -> np.ndarray:
        images = np.lib.stride_tricks.sliding_window_view(self.pixels, 3 * prod(self.size))
        return images[self.offsets[idxs]].reshape(-1, 3, *self.size)

    def __getstate__(self) -> dict:
        """Leave out the pixels: each worker opens the file itself."""
        return {**vars(self), 'pixels': self.pixels.filename}

    def __setstate__(self, state: dict) -> None:
        vars(self).update({**state, 'pixels': np.memmap(state['pixels'], mode='r')})


def load_cache(root: Path) -> Cache:
    """Return the results for the folder `root`; none if there are none, or if the files are damaged or foreign.

    Reads all pixels, which also brings them into memory.
    """
    try:
        folder = fastai_path('data') / 'pixels'
        content = json.loads((folder / f'{_name(root)}.json').read_bytes())
        checksum, file = content.pop('sha256'), folder / content['pixels']
        if content['made_by'] != _made_by() or _checksum(file, content) != checksum:
            return Cache()
        return Cache(content['good'], content['bad'], _mapped(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Cache()


def write_cache(root: Path, results: Iterable[Result]) -> Cache:
    """Write the `results` for the folder `root`, and remove older ones. OSError if that fails."""
    folder, name = fastai_path('data') / 'pixels', _name(root)
    file, cache, end = folder / f'{name}-{token_hex(8)}.u8', Cache(), 0
    remove_parts(folder, 86_400)  # another process may still be writing a newer one
    with replacing(file) as part, part.open('wb') as f:
        for content, result, pixels in results:
            if isinstance(result, str):
                cache.bad[content] = result
            elif pixels is None:
                cache.good[content] = *result, None
            else:
                cache.good[content] = *result, end
                end += f.write(pixels)
    content = {'folder': str(root.resolve()), 'made_by': _made_by(), 'pixels': file.name}
    content |= {'good': cache.good, 'bad': cache.bad}
    with replacing(folder / f'{name}.json') as part:
        part.write_text(json.dumps({**content, 'sha256': _checksum(file, content)}))
    _remove_old(folder, file)
    return Cache(cache.good, cache.bad, _mapped(file))


def _name(root: Path) -> str:
    return hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]


def _made_by() -> dict[str, str | None]:
    """What the results depend on, besides the content of the images."""
    versions = {'Pillow': PIL.__version__, 'libjpeg': features.version('libjpeg_turbo'), 'OpenCV': cv2.__version__}
    return {**versions, 'code': fingerprint(HERE, CODE)}


def _mapped(file: Path) -> np.ndarray:
    return np.memmap(file, mode='r') if file.stat().st_size else Cache().pixels


def _checksum(file: Path, content: dict) -> str:
    digest = hashlib.sha256(json.dumps(content).encode())
    with file.open('rb') as f:
        while block := f.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _remove_old(folder: Path, file: Path) -> None:
    """Remove earlier pixels of the same images as `file`, and the results for folders of images that are gone."""
    for table in folder.glob('*.json'):
        try:
            gone = not Path(json.loads(table.read_bytes())['folder']).is_dir()
        except (ValueError, KeyError, TypeError):  # damaged
            gone = True
        for pixels in folder.glob(f'{table.stem}-*.u8'):
            if pixels != file and (gone or file.name.startswith(table.stem)):
                pixels.unlink(missing_ok=True)
        if gone:
            table.unlink(missing_ok=True)
    for older in folder.glob('*-pillow*.npy'):  # of earlier versions of this program
        older.unlink(missing_ok=True)
