"""Find damage in image files that Pillow ignores; turn decoders' errors into readable reasons."""

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

from data.limits import MAX_BYTES, MAX_PIXELS, BadImage, opened
from runtime.capture_stderr import c_stderr


def check_entry(file: Path) -> None:
    """Raise `BadImage` unless `file` is a non-empty regular file: opening a named pipe would wait forever."""
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
        raise BadImage(f'too big: {found.st_size:,} bytes; at most {MAX_BYTES:,} are read')


def check_damage(im: Image.Image, file: Path, printed: Callable[[], list[str]]) -> None:
    """Raise `BadImage` for wrong checksums in a PNG, and for JPEG damage that libjpeg warns of in `printed`.

    Of 1,500 JPEGs with one changed byte each, Pillow accepted 899 with wrong pixels. libjpeg warned of 415 of them;
    OpenCV prints its warnings. Decoding at an eighth of the size still reads all code words and takes 60 us.
    """
    if im.format == 'PNG':
        with opened(file) as again:
            again.verify()  # checks every chunk; decoding skips the checksums of the pixels
    elif isinstance(im, JpegImageFile):
        with suppress(cv2.error):  # Pillow decides about files that OpenCV can't read
            cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION)
        for line in printed():
            if line.startswith('Corrupt JPEG data'):
                raise BadImage(f'damaged ({line})')


@contextmanager
def refusing() -> Iterator[Callable[[], list[str]]]:
    """Turn every exception of decoding into `BadImage`; yield a function that returns C libraries' stderr lines."""
    with c_stderr() as printed, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about unusual metadata, which isn't used
        warnings.simplefilter('error', Image.DecompressionBombWarning)
        try:
            yield printed
        except BadImage:
            raise
        except Exception as e:  # Pillow's decoders raise nearly every type there is
            raise BadImage(_reason(e, printed())) from e


def _reason(e: Exception, printed: list[str]) -> str:
    if isinstance(e, UnidentifiedImageError):
        return 'not a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM image'
    if isinstance(e, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f'too big: more than {MAX_PIXELS:,} pixels (decompression bomb?)'
    text = ' '.join(str(e).split()) or type(e).__name__
    if 'MAX_TEXT' in text:
        return 'too big: its text or colour profile (decompression bomb?); save the image without it'
    if 'truncated' in text.lower():
        return 'truncated'
    return f'damaged ({printed[-1] if printed else text})'  # libtiff's reason; Pillow only has 'decoder error -2'
