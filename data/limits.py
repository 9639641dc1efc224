"""Refuse image files made to take long or much memory, before a decoder sees them.

Pillow limits the pixels of a file. It doesn't limit the pieces that it reads one by one in Python, nor the numbers in a
TIFF's tags. Within these limits a file takes at most 10 s and 1.5 GiB, including 0.7 GiB for the imports.
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

# Pillow's formats for photographs only: for EPS, Pillow starts Ghostscript, which runs the program in the file
FORMATS = 'JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM'

TIFF_HEADS = b'II*\0', b'MM\0*', b'II\0*', b'MM*\0', b'II+\0', b'MM\0+'
MAX_BYTES = 2**28
MAX_PIXELS = 80_000_000
MAX_SIDE = 65_535  # JPEG's own; libtiff keeps 16 bytes for each row
# WebP is read whole before its size is known, then takes 16 bytes a pixel; no camera writes it
MAX_BYTES_WEBP, MAX_PIXELS_WEBP = 2**26, 40_000_000
MAX_PIXELS_PYTHON = 1_000_000  # if Pillow decodes in Python: BMP with RLE, PPM as text or with an odd depth
MAX_SCANNED = 2_000_000_000  # total pixels of all scans of a JPEG; progressive JPEGs have about 10 scans
MAX_BYTES_SCANS = 2**26  # of a JPEG with several scans: 0.09 s a MiB; 80 million pixels take about 30 MiB
SMALL = 2**17  # bytes: a smaller file can't hold enough pieces to take long
HEADER_READS, HEADER_BYTES = 20_000, 2**24  # pieces and bytes before the pixels
MAX_READS = 1_000_000  # pieces of the pixels; a PNG of 256 MiB usually has 100,000
MAX_EXIF = 2**17  # bytes, twice a JPEG segment; each of thousands of entries may span all of them
MAX_NUMBERS, MAX_TEXT = 2**20, 2**26  # in a TIFF's tags; Pillow takes up to 500 bytes a number
TEXT_TYPES = 1, 2, 6, 7  # TIFF's one-byte types
MAX_STRIP = 2**27  # bytes of a decoded TIFF strip or tile; libtiff buffers one besides the image
STRIPS, STRIP_BYTES, COLOURS, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES = 273, 279, 320, 322, 323, 324, 325
WIDTH, LENGTH, BITS, SAMPLES, ROWS = 256, 257, 258, 277, 278  # BITS per sample, SAMPLES per pixel, ROWS per strip
TABLES = STRIPS, STRIP_BYTES, COLOURS, TILES, TILE_BYTES  # count as numbers, whatever their type
MAX_COMMENTS = 1000  # in a text PPM; Pillow copies up to a MiB for each


class BadImage(ValueError):
    """The image can't be used; the message is the reason, without the file's name."""


class Pieces(BufferedReader):
    """A file that limits the number of reads: Pillow takes 1 to 50 us for each piece of a format."""

    def __init__(self, raw: FileIO, header_bytes: int):
        super().__init__(raw)
        self.reads, self.bytes, self.exif = HEADER_READS, header_bytes, MAX_EXIF

    def read(self, size: int | None = -1) -> bytes:
        """Read `size` bytes; raises `BadImage` after too many bytes or too many pieces."""
        data = super().read(size)
        self.reads -= 1
        self.bytes -= len(data)
        if data.startswith(b'Exif\0\0'):
            self.exif -= len(data)
        if self.reads < 0 or self.bytes < 0 or self.exif < 0:
            raise BadImage('too much data besides the pixels, or in too many pieces: save the image again')
        return data

    def begin_pixels(self) -> None:
        """End the header: from now on limit the pieces of the pixels."""
        self.reads, self.bytes = MAX_READS, 4 * MAX_BYTES


@contextmanager
def opened(file: str | Path) -> Iterator[Image.Image]:
    """Open the image `file`, reading only its header; `BadImage` if decoding would take too long or too much memory."""
    with open(file, 'rb') as f:
        size, head = os.fstat(f.fileno()).st_size, f.peek(16)[:16]
        is_tiff, is_webp = head[:4] in TIFF_HEADS, head[:4] == b'RIFF'
        if is_tiff:
            _check_tags(f, head)
        if is_webp and size > MAX_BYTES_WEBP:
            raise BadImage(f'too big: a WebP of {size:,} bytes; at most {MAX_BYTES_WEBP:,} are read')
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
                im.is_animated = True  # otherwise load() parses all numbers in its EXIF
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
        raise BadImage('too much data besides the pixels: save the image again, without layers')


def _check_size(im: Image.Image) -> None:
    """Refuse an image with more pixels than its decoder may handle."""
    sizes, most = [im.size], MAX_PIXELS
    if im.format == 'TIFF':
        tags = im.tag_v2
        tile_width, tile_length = tile = tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0)
        sizes.append(tile)  # a tile of a 32x32 image may take 1.7 GiB
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
    """Refuse a JPEG with too many scans, each over all pixels: 1,000 empty scans in 100 KB took 15 s."""
    # a sequential JPEG whose first scan has all colours has no other scan; counting scans takes 3 ms a MB
    f.seek(-6 - 2 * im.layers, os.SEEK_CUR)
    if f.read(3) == bytes([0, 6 + 2 * im.layers, im.layers]) and not im.info.get('progressive'):
        return
    if im.width * im.height * im.layers > 3 * MAX_PIXELS:  # 2 bytes each are kept between scans
        most = 3 * MAX_PIXELS // 4
        raise BadImage(f'too big: {im.width}x{im.height}; a progressive CMYK JPEG may have at most {most:,} pixels')
    f.seek(0)
    data = f.read()
    scans = data.count(b'\xff\xda')
    if len(data) > MAX_BYTES_SCANS:
        raise BadImage(f'too big: a progressive JPEG of {len(data):,} bytes; at most {MAX_BYTES_SCANS:,} are read')
    if scans * im.width * im.height > MAX_SCANNED:
        raise BadImage(f'damaged, or made to take long: a JPEG with {scans:,} scans')
