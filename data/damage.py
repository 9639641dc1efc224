"""Damage in an image file that Pillow keeps to itself, and what decoders raise, in words."""

import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from data.c_stderr import c_stderr
from data.limits import MAX_BYTES, MAX_PIXELS, BadImage, opened


def check_entry(file: Path) -> None:
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


def check_damage(im: Image.Image, file: Path, printed: Callable[[], list[str]]) -> None:
    """Raise `BadImage` for a PNG's wrong checksums, and for damage to a JPEG that libjpeg has `printed`.

    Of 1,500 JPEGs with one changed byte each, 899 passed Pillow with other pixels; libjpeg warned of 415 of them,
    through OpenCV, which leaves its warnings be. An eighth of the size needs all the code words and takes 60 us.
    """
    if im.format == 'PNG':
        with opened(file) as again:
            again.verify()  # every chunk's checksum: decoding skips those of the pixels
    elif isinstance(im, JpegImageFile):
        with suppress(cv2.error):  # what it refuses is Pillow's to judge
            cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION)
        for line in printed():
            if line.startswith('Corrupt JPEG data'):
                raise BadImage(f'damaged ({line})')


@contextmanager
def refusing() -> Iterator[Callable[[], list[str]]]:
    """Make of all that decoding raises a `BadImage`; a function gives what C libraries have printed so far."""
    with c_stderr() as printed, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of unusual metadata, which is not looked at
        warnings.simplefilter('error', Image.DecompressionBombWarning)
        try:
            yield printed
        except BadImage:
            raise
        except Exception as e:  # Pillow's decoders raise nearly every type there is
            raise BadImage(_reason(e, printed())) from e


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
