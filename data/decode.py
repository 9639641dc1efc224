"""Decode an image from any source as 8-bit RGB, or refuse it with a readable reason."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from fastai.vision.core import PILImage
from PIL import ExifTags, Image, ImageFile
from PIL.Image import Transpose

from data.antialias import shrink
from data.damage import check_damage, check_entry, refusing
from data.jpeg import decode_jpeg
from data.limits import MAX_EXIF, BadImage, opened
from data.sizes import Size

CHECKED = 128  # shorter side in pixels, at least, at which a JPEG is decoded to check that it is complete

TURNS = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
         6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}  # fmt: skip


def open_rgb(file: str | Path, shorter: int | None = None) -> PILImage:
    """Decode `file` with `to_rgb`; raises `BadImage` or Pillow's own exceptions.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if its shorter side keeps `shorter` pixels: 12 million pixels take
    37 ms at a quarter of the size, 113 ms at full size. Animations and files with pages give their first image, as in
    fastai.
    """
    with opened(file) as im:
        return _decode(im, shorter)


def _decode(im: Image.Image, shorter: int | None) -> PILImage:
    """Decode `im`; a JPEG at a fraction of its size if `shorter` allows."""
    if shorter:
        im.draft(None, (shorter, shorter))  # only affects JPEGs
    return to_rgb(im, close=True)


def open_shrunk(file: str | Path, side: int) -> np.ndarray:
    """Decode `file` like `open_rgb`, and `shrink` it to `side`: RGB, H x W x 3, uint8."""
    with opened(file) as im:
        pixels = _decode_jpeg(im, file, side)
        return shrink(np.asarray(_decode(im, side)) if pixels is None else pixels, side)


def _decode_jpeg(im: Image.Image, file: str | Path, shorter: int) -> np.ndarray | None:
    """Decode upright with OpenCV, to the same pixels as `_decode`; None if only Pillow can."""
    pixels = decode_jpeg(im, file, shorter)
    turn = None if pixels is None else TURNS.get(_orientation(im))
    return pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))


def to_rgb(im: Image.Image, close: bool = False) -> PILImage:
    """Copy `im` as 8-bit RGB, turned upright by its EXIF orientation; raises `BadImage` or Pillow's own exceptions.

    16-bit grey keeps its high byte, as Pillow does for 16-bit RGB: `convert` would clip it to white. Transparency is
    dropped, not composited, as in fastai. `im` stays unchanged; `close` closes it and frees its memory.
    """
    if im.mode == 'F' or (im.mode == 'I' and im.format != 'PNG'):  # Pillow before 11.3 opens a 16-bit PNG as I
        raise BadImage('32-bit pixels of unknown range')
    im.load()
    turn = TURNS.get(_orientation(im))
    rgb = im._new(im.im)  # shares the pixels, as fastai's load_image does
    if close:
        im.close()
    if rgb.mode.startswith('I'):
        rgb = Image.fromarray((np.asarray(rgb) >> 8).astype(np.uint8))
    rgb.info.pop('transparency', None)  # otherwise Pillow warns that a palette's transparency is lost
    if turn is not None:
        rgb = rgb.transpose(turn)
    return PILImage.create(rgb if close and rgb.mode == 'RGB' else rgb.convert('RGB'))


def _orientation(im: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8."""
    if len(im.info.get('exif') or im.info.get('Raw profile type exif') or b'') > MAX_EXIF:
        raise BadImage(f'too big: its EXIF has more than {MAX_EXIF:,} bytes; save the image without it')
    return im.getexif().get(ExifTags.Base.Orientation, 1)


def check_file(
    file: Path, side_for: Callable[[Size], int | None] = lambda size: None
) -> tuple[Size, np.ndarray | None]:
    """Return the height and width of the upright image `file`, and its pixels: RGB, H x W x 3, uint8.

    `side_for` returns for a size: None if the pixels aren't needed, 0 for all pixels, or the side for `shrink`. It must
    treat height and width alike: the image may have to be turned. Raises `BadImage` if `file` is unreadable or damaged.
    Some formats show damage: PNG has checksums, and damaged JPEG code words are often invalid. In other formats, and in
    parts of a JPEG, a changed byte gives just another valid image, which no reader can detect.
    """
    check_entry(file)
    with refusing() as printed, opened(file) as im:
        stored, side = im.size[::-1], side_for(im.size)
        if side and (pixels := _decode_jpeg(im, file, side)) is not None and not printed():
            return _upright(im, stored), shrink(pixels, side)
        check_damage(im, file, printed)
        is_reduced = side != 0 and im.draft(None, 2 * (side or CHECKED,))
        pixels = np.asarray(to_rgb(im, close=True))
        size = _upright(im, stored) if is_reduced else pixels.shape[:2]
        side = side_for(size)
        return size, None if side is None else shrink(pixels, side) if side else pixels


def _upright(im: Image.Image, stored: Size) -> Size:
    return stored[::-1] if _orientation(im) in range(5, 9) else stored


def read_image(file: Path, shorter: int | None = None) -> PILImage:
    """Decode an unchecked file like `open_rgb`; raises `BadImage` as `check_file` does."""
    check_entry(file)
    with refusing() as printed, opened(file) as im:
        check_damage(im, file, printed)
        return _decode(im, shorter)


def read_any(item: str | Path | bytes | np.ndarray | Image.Image, shorter: int | None = None) -> PILImage:
    """Decode a path, the bytes of a file, an array or a PIL image like `read_image`; `item` stays unchanged.

    An array is H x W or H x W x C, uint8 or uint16; C is 1 to 4, the second of 2 or the fourth of 4 is transparency.
    `shorter` only applies to files: the pixels of a large JPEG that is already loaded differ a little.
    """
    if isinstance(item, str | Path):
        return read_image(Path(item), shorter)
    if isinstance(item, ImageFile.ImageFile) and item._im is None and item.fp and not item.tell():
        item = _content(item)  # `load` would change the caller's object
    if isinstance(item, bytes):
        with TemporaryDirectory() as folder:
            file = Path(folder) / 'image'
            file.write_bytes(item)
            return read_image(file, shorter)
    with refusing():
        return to_rgb(_from_array(item) if isinstance(item, np.ndarray) else item)


def _content(im: ImageFile.ImageFile) -> bytes:
    """Return the bytes of the file of an image that isn't loaded yet."""
    position = im.fp.tell()
    im.fp.seek(0)
    try:
        return im.fp.read()
    finally:
        im.fp.seek(position)


def _from_array(a: np.ndarray) -> Image.Image:
    """Convert an array to a PIL image; PIL has no 16-bit colours, so these keep their high byte."""
    deep, channels = a.dtype.kind == 'u' and a.dtype.itemsize == 2, a.shape[2] if a.ndim == 3 else 1
    if not (deep or a.dtype == np.uint8) or a.ndim not in (2, 3) or channels not in (1, 2, 3, 4) or not a.size:
        raise BadImage(f'an array of {a.dtype}, {a.shape}: give uint8 or uint16, height x width or height x width x 3')
    a = (a >> 8).astype(np.uint8) if deep else a
    return Image.fromarray(a[..., 0] if a.ndim == 3 and channels == 1 else a)
