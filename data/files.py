"""One image file, whoever made it: decoded as 8-bit RGB, or refused with a reason in words."""

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
from fastai.vision.core import PILImage
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from data.c_stderr import c_stderr

# Those that people keep photographs in, of Pillow's fifty. One of the others is EPS, which it hands to Ghostscript: a
# program in a file would be run.
FORMATS = 'JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM'
# WebP takes 16 bytes a pixel, the most of all formats. With the 680 MiB of the imports that stays below 2 GiB
MAX_PIXELS = 80_000_000
TILEWIDTH, TILELENGTH = 322, 323  # TIFF's numbers for them
MAX_BYTES = 2**28  # WebP is read whole before its size is known
MAX_SCANS = 100  # progressive JPEGs have about 10; 100 KB can hold 1,000 empty ones, which took 15 s
CHECKED = 128  # pixels of the shorter side that a JPEG is decoded to at least, to see whether it's whole


class BadImage(ValueError):
    """A file that can't be used; the message is the reason, without the file's name."""


def open_rgb(file: str | Path, shorter: int | None = None) -> PILImage:
    """Decode `file` as 8-bit RGB, upright by its EXIF orientation; raise `BadImage`, or what Pillow raises.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where its shorter side keeps `shorter` pixels that way: 12 million
    pixels take 37 ms at a quarter of the size, else 113.
    Of what is animated or has pages it is the first, as fastai has it. 16-bit grey keeps its high byte, as Pillow does
    for 16-bit RGB: `convert` would clip it to white. Transparency is dropped, not composited, as fastai does.
    """
    with Image.open(file, formats=FORMATS) as im:
        sizes = [im.size]
        if im.format == 'TIFF':  # whose tiles may be larger than the image: 1.7 GiB for 32x32 pixels
            sizes.append((im.tag_v2.get(TILEWIDTH, 0), im.tag_v2.get(TILELENGTH, 0)))
        for width, height in sizes:
            if width * height > MAX_PIXELS:
                raise BadImage(f'too big: {width}x{height}, and more than {MAX_PIXELS:,} pixels are not opened')
        if shorter:
            im.draft(None, (shorter, shorter))  # which only JPEGs can
        ImageOps.exif_transpose(im, in_place=True)
        if im.mode in ('I', 'F'):
            raise BadImage('32-bit pixels, whose range is not known')
        if im.mode.startswith('I;16'):
            im = Image.fromarray((np.asarray(im) >> 8).astype(np.uint8))
        im.info.pop('transparency', None)  # or Pillow warns that a palette's gets lost
        return PILImage.create(im.convert('RGB'))


def check_file(file: Path) -> tuple[int, int]:
    """The height and width of the upright image `file`; raises `BadImage` if it can't be opened or is damaged.

    Damage shows where the format allows: PNG has checksums, and the code words of a JPEG often no longer add up. In the
    other formats, and in part of a JPEG, a changed byte makes just another image, which no reader can tell.
    """
    with _checked(file) as is_jpeg:
        if is_jpeg:
            open_rgb(file, CHECKED)
            return _jpeg_size(file)
        return open_rgb(file).shape


def read_image(file: Path, shorter: int | None = None) -> PILImage:
    """What `open_rgb` gives of a file that nobody has checked; raises `BadImage` as `check_file` does."""
    with _checked(file):
        return open_rgb(file, shorter)


@contextmanager
def _checked(file: Path) -> Iterator[bool]:
    """Look for damage in `file`, say whether it's a JPEG, and make of all that its opening raises a `BadImage`."""
    _check_entry(file)
    with c_stderr() as printed, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of unusual metadata, which is not looked at
        warnings.simplefilter('error', Image.DecompressionBombWarning)
        try:
            with file.open('rb') as f:
                head = f.read(4)
            if head == b'\x89PNG':
                with Image.open(file, formats=['PNG']) as im:
                    im.verify()  # every chunk's checksum: decoding skips those of the pixels
            is_jpeg = head.startswith(b'\xff\xd8')
            if is_jpeg:
                _check_jpeg(file)
                for line in printed():
                    if line.startswith('Corrupt JPEG data'):
                        raise BadImage(f'damaged ({line})')
            yield is_jpeg
        except BadImage:
            raise
        except Exception as e:  # Pillow's decoders raise nearly every type there is
            raise BadImage(_reason(e, printed())) from e


def _check_entry(file: Path) -> None:
    """Raise `BadImage` for what isn't a file with something in it: opening a named pipe would wait for ever."""
    try:
        found = os.stat(file)
    except OSError as e:
        raise BadImage('a broken link' if file.is_symlink() else e.strerror) from e
    if stat.S_ISDIR(found.st_mode):
        raise BadImage('a folder, not a file')
    if not stat.S_ISREG(found.st_mode):
        raise BadImage('a pipe, socket or device, not a file')
    if not found.st_size:
        raise BadImage('empty')
    if found.st_size > MAX_BYTES:
        raise BadImage(f'too big: {found.st_size:,} bytes, and more than {MAX_BYTES:,} are not read')


def _check_jpeg(file: Path) -> None:
    """Raise `BadImage` for what would take for ever; let libjpeg print what damage it sees, of which Pillow is silent.

    Of 1,500 JPEGs with one changed byte each, 899 passed Pillow with other pixels; libjpeg warned of 415 of them,
    through OpenCV, which leaves its warnings be. An eighth of the size needs all the code words and takes 60 us.
    """
    data = file.read_bytes()
    if data.count(b'\xff\xda') > MAX_SCANS:
        raise BadImage(f'damaged, or made to take long: a JPEG with more than {MAX_SCANS} scans')
    with suppress(cv2.error):  # what it refuses is Pillow's to judge
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION)


def _jpeg_size(file: Path) -> tuple[int, int]:
    """Its height and width, upright, without decoding it."""
    with Image.open(file, formats=FORMATS) as im:
        return im.size if im.getexif().get(ExifTags.Base.Orientation) in range(5, 9) else im.size[::-1]


def _reason(e: Exception, printed: list[str]) -> str:
    """What a decoder raised, and said besides, in words."""
    if isinstance(e, UnidentifiedImageError):
        return 'not a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM image'
    if isinstance(e, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f'too big: more than {MAX_PIXELS:,} pixels are not opened (decompression bomb?)'
    text = ' '.join(str(e).split()) or type(e).__name__
    if 'MAX_TEXT' in text:
        return 'too big: its text or colour profile, a decompression bomb or no use; save the image without'
    if 'truncated' in text.lower():
        return 'truncated'
    return f'damaged ({printed[-1] if printed else text})'  # libtiff's words, where Pillow has 'decoder error -2'
