"""Image files that are made to take long or much memory: refused before a decoder sees them.

Pillow bounds the pixels of a file. It doesn't bound the pieces that it reads one by one in Python, nor the numbers that
it makes of a TIFF's tags. Within these limits a file takes at most 10 s, and 1.5 GiB with the 0.7 of the imports.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

# Those that people keep photographs in, of Pillow's fifty. One of the others is EPS, which it hands to Ghostscript: a
# program in a file would be run.
FORMATS = 'JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM'
TIFF_HEADS = b'II*\0', b'MM\0*', b'II\0*', b'MM*\0', b'II+\0', b'MM\0+'
MAX_BYTES = 2**28
MAX_PIXELS = 80_000_000
MAX_SIDE = 65_535  # JPEG's own; libtiff keeps 16 bytes for each row
# WebP is read whole before its size is known, and then takes 16 bytes a pixel; no camera writes it
MAX_BYTES_WEBP, MAX_PIXELS_WEBP = 2**26, 40_000_000
MAX_PIXELS_PYTHON = 1_000_000  # where Pillow decodes in Python: BMP with RLE, PPM as text or with an odd depth
MAX_SCANNED = 2_000_000_000  # pixels of all scans of a JPEG together; progressive ones have about 10 scans
MAX_BYTES_SCANS = 2**26  # of a JPEG with several scans, which take 0.09 s a MiB; 80 million pixels have about 30 MiB
SMALL = 2**17  # bytes of a file that is too small for pieces that take long
HEADER_READS, HEADER_BYTES = 20_000, 2**24  # pieces, and bytes, before the pixels
MAX_READS = 1_000_000  # pieces from then on; a PNG of 256 MiB usually has 100,000
MAX_EXIF = 2**17  # bytes, twice what a JPEG's segment holds; each of its thousands of entries may span them all
MAX_NUMBERS, MAX_TEXT = 2**20, 2**26  # in a TIFF's tags; of a number Pillow makes up to 500 bytes
TEXT_TYPES = 1, 2, 6, 7  # of TIFF's types, those of one byte
MAX_STRIP = 2**27  # bytes of its strip or tile, decoded; libtiff holds one besides the image, and writes of 8 KiB
STRIPS, STRIP_BYTES, COLOURS, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES = 273, 279, 320, 322, 323, 324, 325
WIDTH, LENGTH, BITS, SAMPLES, ROWS = 256, 257, 258, 277, 278  # BITS of a sample, SAMPLES of a pixel, ROWS of a strip
TABLES = STRIPS, STRIP_BYTES, COLOURS, TILES, TILE_BYTES  # are numbers, whatever their type
MAX_COMMENTS = 1000  # in a PPM that is text; Pillow copies up to a MiB for each


class BadImage(ValueError):
    """A file that can't be used; the message is the reason, without the file's name."""


class Pieces(BufferedReader):
    """A file that gives up after so many reads: Pillow takes 1 to 50 us for each piece of a format."""

    def __init__(self, raw: FileIO, header_bytes: int):
        super().__init__(raw)
        self.reads, self.bytes, self.exif = HEADER_READS, header_bytes, MAX_EXIF

    def read(self, size: int | None = -1) -> bytes:
        """The next `size` bytes; raises `BadImage` where they are too many, or too many pieces were read before."""
        data = super().read(size)
        self.reads -= 1
        self.bytes -= len(data)
        if data.startswith(b'Exif\0\0'):
            self.exif -= len(data)
        if self.reads < 0 or self.bytes < 0 or self.exif < 0:
            raise BadImage('too much besides the pixels, or in too many pieces: save the image anew')
        return data

    def begin_pixels(self) -> None:
        """The header has been read: from now on the pieces of the pixels count, and their bytes don't."""
        self.reads, self.bytes = MAX_READS, 4 * MAX_BYTES


@contextmanager
def opened(file: str | Path) -> Iterator[Image.Image]:
    """Open the image `file`, its header only; raises `BadImage` where more would take too long or too much memory.

    Raises what Pillow raises, too.
    """
    with open(file, 'rb') as f:
        size, head = os.fstat(f.fileno()).st_size, f.peek(16)[:16]
        is_tiff, is_webp = head[:4] in TIFF_HEADS, head[:4] == b'RIFF'
        if is_tiff:
            _check_tags(f, head)
        if is_webp and size > MAX_BYTES_WEBP:
            raise BadImage(f'too big: a WebP of {size:,} bytes, and more than {MAX_BYTES_WEBP:,} are not read')
        f.seek(0)
        if size > SMALL:
            f.raw.seek(0)
            f = Pieces(f.raw, 4 * MAX_TEXT if is_tiff or is_webp else HEADER_BYTES)
        if head[:2] in (b'P1', b'P2', b'P3'):
            if f.read().count(b'#') > MAX_COMMENTS:
                raise BadImage(f'made to take long: a PPM with more than {MAX_COMMENTS:,} comments')
            f.seek(0)
        with Image.open(f, formats=FORMATS) as im:
            _check_size(im)
            if size > SMALL:
                f.begin_pixels()
            if isinstance(im, JpegImageFile) and im.width * im.height * size / 10 > MAX_SCANNED:
                _check_scans(im, f)
            if im.format == 'TIFF':
                im.is_animated = True  # or load() makes numbers of all that its EXIF holds
            yield im


def _check_tags(f: BufferedReader, head: bytes) -> None:
    """Refuse a TIFF with more numbers or text in its tags than photographs have."""
    order, big = '<' if head[:2] == b'II' else '>', head[2] == 43
    place, count, entry = (order + kind for kind in (('Q', 'Q', 'HHQQ') if big else ('I', 'H', 'HHII')))
    try:
        f.seek(*struct.unpack_from(place, head, 8 if big else 4))
        (entries,) = struct.unpack(count, f.read(struct.calcsize(count)))
        tags = [*struct.iter_unpack(entry, f.read(min(entries, 2**16) * struct.calcsize(entry)))]
    except (struct.error, OSError, OverflowError) as e:
        raise BadImage('truncated') from e
    numbers = text = 0
    for tag, kind, values, _ in tags:
        if kind in TEXT_TYPES and tag not in TABLES:
            text += values
        else:
            numbers += values
    if numbers > MAX_NUMBERS or text > MAX_TEXT:
        raise BadImage('too much besides the pixels: save the image anew, without layers')


def _check_size(im: Image.Image) -> None:
    """Refuse more pixels than its decoder makes in time and memory."""
    sizes, most = [im.size], MAX_PIXELS
    if im.format == 'TIFF':
        tags = im.tag_v2
        tile_width, tile_length = tile = tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0)
        sizes.append(tile)  # which may be 1.7 GiB for an image of 32x32
        if np.sum(tags.get(STRIP_BYTES) or tags.get(TILE_BYTES) or 0) > 16 * MAX_BYTES:
            raise BadImage('made to take long: a TIFF that has the same bytes in many strips')
        strip = tile_width * tile_length or tags[WIDTH] * min(tags.get(ROWS, MAX_SIDE), tags[LENGTH])
        if im.tile[0][0] == 'libtiff' and strip * tags.get(SAMPLES, 1) * np.max(tags.get(BITS, 1)) > 8 * MAX_STRIP:
            raise BadImage(f'too big: a TIFF with strips or tiles of over {MAX_STRIP:,} bytes')
    elif im.format == 'WEBP':
        most = MAX_PIXELS_WEBP
    elif im.tile and im.tile[0][0] in Image.DECODERS:
        most = MAX_PIXELS_PYTHON
    for width, height in sizes:
        if width * height > most or max(width, height) > MAX_SIDE:
            raise BadImage(f'too big: {width}x{height}; at most {most:,} pixels, {MAX_SIDE:,} a side, are opened')


def _check_scans(im: JpegImageFile, f: BufferedReader) -> None:
    """Refuse a JPEG of too many scans, each of which goes over all pixels: 1,000 empty ones, 100 KB, took 15 s."""
    # a sequential JPEG whose first scan has all colours has no other: counting takes 3 ms a MB
    f.seek(-6 - 2 * im.layers, os.SEEK_CUR)
    if f.read(3) == bytes([0, 6 + 2 * im.layers, im.layers]) and not im.info.get('progressive'):
        return
    if im.width * im.height * im.layers > 3 * MAX_PIXELS:  # 2 bytes for each are kept from scan to scan
        raise BadImage(
            f'too big: {im.width}x{im.height}; of a progressive CMYK, {3 * MAX_PIXELS // 4:,} pixels are opened'
        )
    f.seek(0)
    data = f.read()
    scans = data.count(b'\xff\xda')
    if len(data) > MAX_BYTES_SCANS:
        raise BadImage(f'too big: a progressive JPEG of {len(data):,} bytes; at most {MAX_BYTES_SCANS:,} are read')
    if scans * im.width * im.height > MAX_SCANNED:
        raise BadImage(f'damaged, or made to take long: a JPEG with {scans:,} scans')
