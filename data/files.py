"""One image, whoever made it and whatever it comes as: decoded as 8-bit RGB, or refused with a reason in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from fastai.vision.core import PILImage
from PIL import ExifTags, Image, ImageFile
from PIL.Image import Transpose

from data.damage import check_damage, check_entry, refusing
from data.limits import MAX_EXIF, BadImage, opened

CHECKED = 128  # pixels of the shorter side that a JPEG is decoded to at least, to see whether it's whole
TURNS = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
         6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}  # fmt: skip


def open_rgb(file: str | Path, shorter: int | None = None) -> PILImage:
    """Decode `file` as `to_rgb` says; raises `BadImage`, or what Pillow raises.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where its shorter side keeps `shorter` pixels that way: 12 million
    pixels take 37 ms at a quarter of the size, else 113. Of what is animated or has pages it is the first, as fastai
    has it.
    """
    with opened(file) as im:
        return _decode(im, shorter)


def _decode(im: Image.Image, shorter: int | None) -> PILImage:
    """The pixels of `im`, a JPEG's at a fraction."""
    if shorter:
        im.draft(None, (shorter, shorter))  # which only JPEGs can
    return to_rgb(im, close=True)


def to_rgb(im: Image.Image, close: bool = False) -> PILImage:
    """A copy of `im` in 8-bit RGB, upright by its EXIF orientation; raises `BadImage`, or what Pillow raises.

    16-bit grey keeps its high byte, as Pillow does for 16-bit RGB: `convert` would clip it to white. Transparency is
    dropped, not composited, as fastai does. `im` stays as it is, or with `close` gives its memory back.
    """
    if im.mode == 'F' or (im.mode == 'I' and im.format != 'PNG'):  # Pillow before 11.3 opens a 16-bit PNG as I
        raise BadImage('32-bit pixels, whose range is not known')
    im.load()
    turn = TURNS.get(_orientation(im))
    rgb = im._new(im.im)  # shares the pixels, as fastai's load_image does
    if close:
        im.close()
    if rgb.mode.startswith('I'):
        rgb = Image.fromarray((np.asarray(rgb) >> 8).astype(np.uint8))
    rgb.info.pop('transparency', None)  # or Pillow warns that a palette's gets lost
    if turn is not None:
        rgb = rgb.transpose(turn)
    return PILImage.create(rgb if close and rgb.mode == 'RGB' else rgb.convert('RGB'))


def _orientation(im: Image.Image) -> int:
    """Of 1, upright, to 8."""
    if len(im.info.get('exif') or im.info.get('Raw profile type exif') or b'') > MAX_EXIF:
        raise BadImage(f'too big: its EXIF, more than {MAX_EXIF:,} bytes; save the image without')
    return im.getexif().get(ExifTags.Base.Orientation, 1)


def check_file(file: Path) -> tuple[int, int]:
    """The height and width of the upright image `file`; raises `BadImage` if it can't be opened or is damaged.

    Damage shows where the format allows: PNG has checksums, and the code words of a JPEG often no longer add up. In the
    other formats, and in part of a JPEG, a changed byte makes just another image, which no reader can tell.
    """
    with _checked(file) as im:
        size = im.size
        if not im.draft(None, (CHECKED, CHECKED)):
            return to_rgb(im, close=True).shape
        to_rgb(im, close=True)
        return size if _orientation(im) in range(5, 9) else size[::-1]


def read_image(file: Path, shorter: int | None = None) -> PILImage:
    """What `open_rgb` gives of a file that nobody has checked; raises `BadImage` as `check_file` does."""
    with _checked(file) as im:
        return _decode(im, shorter)


@contextmanager
def _checked(file: Path) -> Iterator[Image.Image]:
    """Open `file` and look for damage; whatever is raised becomes a `BadImage`."""
    check_entry(file)
    with refusing() as printed, opened(file) as im:
        check_damage(im, file, printed)
        yield im


def read_any(item: str | Path | bytes | np.ndarray | Image.Image, shorter: int | None = None) -> PILImage:
    """What `read_image` gives of an image's file, whatever it comes as; `item` stays as it is. Raises `BadImage`.

    An array is H x W, or H x W x 1 to 4, the second or fourth transparency, uint8 or uint16. Only a file can be decoded
    at a fraction for `shorter`: the pixels of a large JPEG that is loaded already differ a little.
    """
    if isinstance(item, str | Path):
        return read_image(Path(item), shorter)
    if isinstance(item, ImageFile.ImageFile) and item._im is None and item.fp and not item.tell():
        item = _content(item)  # `load` would change the caller's image
    if isinstance(item, bytes):
        with TemporaryDirectory() as folder:
            file = Path(folder) / 'image'
            file.write_bytes(item)
            return read_image(file, shorter)
    with refusing():
        return to_rgb(_from_array(item) if isinstance(item, np.ndarray) else item)


def _content(im: ImageFile.ImageFile) -> bytes:
    """The file of an image that isn't loaded yet."""
    at = im.fp.tell()
    im.fp.seek(0)
    try:
        return im.fp.read()
    finally:
        im.fp.seek(at)


def _from_array(a: np.ndarray) -> Image.Image:
    """An array as a PIL image, which has no 16-bit colours."""
    deep, channels = a.dtype.kind == 'u' and a.dtype.itemsize == 2, a.shape[2] if a.ndim == 3 else 1
    if not (deep or a.dtype == np.uint8) or a.ndim not in (2, 3) or channels not in (1, 2, 3, 4) or not a.size:
        raise BadImage(f'an array of {a.dtype}, {a.shape}: give uint8 or uint16, height x width or height x width x 3')
    a = (a >> 8).astype(np.uint8) if deep else a
    return Image.fromarray(a[..., 0] if a.ndim == 3 and channels == 1 else a)
