"""Files made to take long or much memory are refused early; photographs are not."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from time import process_time

import numpy as np
import pytest
from bad_images import exif, png, saved
from PIL import Image

from data.decode import check_file, open_rgb, read_any
from data.limits import BadImage

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
JPEG, GIF, ROWS = saved(PIXELS, format='JPEG'), saved(Image.new('P', (32, 32)), format='GIF'), bytes(97 * 32)


def jpeg(segment: bytes, times: int) -> bytes:
    """A JPEG with `segment` (marker and content) repeated `times` times before the others."""
    return JPEG[:2] + (segment[:2] + struct.pack('>H', len(segment)) + segment[2:]) * times + JPEG[2:]


def large_jpeg(scans: bytes, **options) -> bytes:
    """A JPEG of 80 million pixels with `scans` added to its own."""
    data = saved(Image.new('L' if options else 'RGB', (8000, 10_000)), format='JPEG', **options)
    return (data[:-2] if options else data[: data.index(b'\xff\xda')]) + scans + b'\xff\xd9'


def bmp(content: bytes, side: int = 32) -> bytes:
    """A BMP with RLE-coded `content`."""
    data = bytearray(saved(Image.new('P', (32, 32)), format='BMP'))
    data[18:26], data[30:34] = struct.pack('<ii', side, side), struct.pack('<I', 1)
    return bytes(data[: struct.unpack('<I', data[10:14])[0]]) + content


def tiff(order: str = '<', big: bool = False, **tags: tuple[int, int, bytes]) -> bytes:
    """A compressed grey 32x32 TIFF; `tags` add or replace tags by (type, count, content) or a single value."""
    rows = zlib.compress(bytes(1024))
    ids = {'width': 256, 'length': 257, 'bits': 258, 'compression': 259, 'photometric': 262, 'strips': 273, 'rows': 278,
           'strip_bytes': 279, 'colours': 320, 'exif': 34665, 'layers': 37724, 'tile_width': 322}  # fmt: skip
    usual = {'width': 32, 'length': 32, 'bits': 8, 'compression': 8, 'photometric': 1, 'strips': 4000, 'rows': 32,
             'strip_bytes': len(rows)}  # fmt: skip
    place, count, entry, start = ('Q', 'Q', 'HHQQ', 16) if big else ('I', 'H', 'HHII', 8)
    head = (b'II' if order == '<' else b'MM') + struct.pack(
        order + ('HHHQ' if big else 'HI'), *((43, 8, 0) if big else (42,)), start
    )
    listed, more = struct.pack(order + count, len({**usual, **tags})), bytes(len(rows))
    for name, value in {**usual, **tags}.items():
        kind, values, content = (4, 1, value) if isinstance(value, int) else value
        if isinstance(content, bytes):
            content, more = 4000 + len(more), more + content
        listed += struct.pack(order + entry, ids[name], kind, values, content)
    return (head + listed + struct.pack(order + place, 0)).ljust(4000, b'\0') + rows + more[len(rows) :]


def webp(size: tuple[int, int], junk: int = 0) -> bytes:
    data = saved(Image.new('RGB', size), format='WEBP', lossless=True, method=0)
    body = data[8:] + (b'JUNK' + struct.pack('<I', junk) + bytes(junk) if junk else b'')
    return b'RIFF' + struct.pack('<I', len(body)) + body


def with_chunks(chunk: tuple[bytes, bytes], times: int = 1, last: bool = False) -> bytes:
    """A PNG with `chunk` repeated `times` times, before the pixels or after them."""
    data = png(32, 32, 8, 2, ROWS)
    name, body = chunk
    chunks = (struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))) * times
    at = len(data) - 12 if last else data.index(b'IDAT') - 4
    return data[:at] + chunks + data[at:]


def overlapping(size: int) -> bytes:
    """EXIF of `size` bytes; half of them are entries that each span all of it."""
    n = size // 24
    entries = b''.join(struct.pack('<HHII', 1000 + i, 7, size, 0) for i in range(n))
    return (b'II*\0\x08\0\0\0' + struct.pack('<H', n) + entries).ljust(size, b'\0')


EXIF_AS_TEXT = b'Raw profile type exif\0\0' + zlib.compress(b'\nexif\n1\n' + overlapping(300_000).hex().encode())
PIECES, BESIDES, BIG, LONG = 'in too many pieces', 'too much data besides the pixels', '^too big', 'made to take long'
ATTACKS: dict[str, tuple[str, Callable[[], bytes]]] = {
    'JPEG comments': (PIECES, lambda: jpeg(b'\xff\xfe', 100_000)),
    'JPEG EXIF in crumbs': (PIECES, lambda: jpeg(b'\xff\xe1Exif\0\0x', 100_000)),
    'JPEG EXIF': (BESIDES, lambda: jpeg(b'\xff\xe1Exif\0\0' + bytes(65_000), 3)),
    'JPEG profile in crumbs': (PIECES, lambda: jpeg(b'\xff\xe2ICC_PROFILE\0\1\1', 100_000)),
    'JPEG segments': (BESIDES, lambda: jpeg(b'\xff\xed' + bytes(65_000), 300)),
    'JPEG junk': (PIECES, lambda: JPEG[:2] + b'\xff\0' * 100_000 + JPEG[2:]),
    'JPEG scans': (LONG, lambda: large_jpeg(b'\xff\xda\0\x08\1\1\0\1\x05\0' * 30, progressive=True)),
    'JPEG of CMYK': (BIG, lambda: saved(Image.new('CMYK', (8000, 8000)), format='JPEG', progressive=True)),
    'JPEG scans, sequential': (LONG, lambda: large_jpeg(b'\xff\xda\0\x08\1\1\0\0\x3f\0' * 1000)),
    'PNG chunks': (PIECES, lambda: with_chunks((b'prVt', b''), 100_000)),
    'PNG text': (PIECES, lambda: with_chunks((b'tEXt', b'k\0'), 100_000)),
    'PNG empty pixels': (PIECES, lambda: with_chunks((b'IDAT', b''), 20_000)),
    'PNG chunk': (BESIDES, lambda: with_chunks((b'prVt', bytes(20_000_000)))),
    'PNG EXIF at the end': ('^too big: its EXIF', lambda: with_chunks((b'eXIf', overlapping(300_000)), last=True)),
    'PNG EXIF as text': ('^too big: its EXIF', lambda: with_chunks((b'zTXt', EXIF_AS_TEXT))),
    'PPM comment': (PIECES, lambda: b'P6\n#' + b'x' * 200_000 + b'\n32 32 255\n' + ROWS),
    'PPM comments': (LONG, lambda: b'P2 32 32 255\n' + b'#\n' * 400_000 + b'1 ' * 1024),
    'PPM text': (BIG, lambda: b'P3 1100 1000 255\n' + b'1 ' * 3_300_000),
    'PPM of another depth': (BIG, lambda: b'P6 1100 1000 1000\n' + bytes(6_600_000)),
    'BMP RLE': (BIG, lambda: bmp(b'\xff\1' * 10_000, 2000)),
    'BMP RLE of nothing': (PIECES, lambda: bmp(b'\0\0' * 100_000)),
    'GIF extensions': (PIECES, lambda: GIF[:-1].replace(b',', b'!\xfe\0' * 100_000 + b',', 1)),
    'WebP pixels': (BIG, lambda: webp((8000, 6000))),
    'WebP chunk': ('^too big: a WebP of 68,', lambda: webp((32, 32), 68_000_000)),
    'TIFF strips': (BESIDES, lambda: tiff(strips=(4, 2_000_000, bytes(8_000_000)))),
    'TIFF strips as bytes': (BESIDES, lambda: tiff(strips=(1, 2_000_000, bytes(2_000_000)))),
    'TIFF strips, big-endian': (BESIDES, lambda: tiff('>', strips=(4, 2_000_000, bytes(8_000_000)))),
    'TIFF strips, BigTIFF': (BESIDES, lambda: tiff('<', True, strips=(4, 2_000_000, bytes(8_000_000)))),
    'TIFF colours': (BESIDES, lambda: tiff(colours=(3, 2_000_000, bytes(4_000_000)))),
    'TIFF text': (BESIDES, lambda: tiff(layers=(7, 70_000_000, bytes(70_000_000)))),
    'TIFF of one column': (BIG, lambda: tiff(width=1, length=80_000_000, rows=1)),
    'TIFF with one large strip': (BIG, lambda: tiff(width=8000, length=9000, bits=16, rows=9000)),
    'TIFF with overlapping strips': (LONG, lambda: tiff(length=2000, rows=1, strips=(4, 2000, bytes(8000)),
                                                       strip_bytes=(4, 2000, struct.pack('<I', 3_000_000) * 2000))),
}  # fmt: skip


@pytest.mark.parametrize('attack', ATTACKS)
def test_files_that_take_long_or_much_memory_are_refused(attack, tmp_path, monkeypatch):
    monkeypatch.setattr('data.limits.MAX_READS', 30_000)
    reason, make = ATTACKS[attack]
    data = make()
    (tmp_path / 'a').write_bytes(data)
    for refuses in (check_file, open_rgb, lambda file: read_any(data)):
        began = process_time()
        with pytest.raises(BadImage, match=reason):
            refuses(tmp_path / 'a')
        assert process_time() - began < 5  # of the 10 s allowed


def photographs():
    """Files at least as unusual as those of cameras and programs."""
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    yield 'with a preview', jpeg(b'\xff\xe2' + bytes(65_000), 200)  # 13 MB
    yield 'with EXIF', saved(noise, format='JPEG', exif=exif(1) + bytes(60_000))
    yield 'progressive', saved(Image.fromarray(noise).resize((6000, 4000)), format='JPEG', progressive=True)
    for size in 512, 8192:
        out = BytesIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr('PIL.ImageFile.MAXBLOCK', size)
            Image.fromarray(noise).save(out, 'PNG')
        yield f'PNG of chunks of {size}', out.getvalue()
    yield 'tiled', saved(noise, format='TIFF', compression='tiff_lzw', tiffinfo={322: 16, 323: 16})
    yield 'with layers', tiff(layers=(7, 10_000_000, bytes(10_000_000)))
    yield 'big-endian', tiff('>')
    yield 'BigTIFF', tiff(big=True)
    yield (
        'animated',
        saved(Image.fromarray(noise), format='GIF', save_all=True, append_images=[Image.new('RGB', (800, 600))] * 50),
    )
    yield 'WebP', saved(noise, format='WEBP', lossless=True)


@pytest.mark.parametrize(('name', 'data'), [*photographs()])
def test_photographs_are_accepted(name, data, tmp_path):
    (tmp_path / 'a').write_bytes(data)
    assert check_file(tmp_path / 'a')[0] == open_rgb(tmp_path / 'a').shape


def test_progressive_jpegs_have_a_lower_size_limit(tmp_path, monkeypatch):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)).resize((4000, 3000))
    monkeypatch.setattr('data.limits.MAX_BYTES_SCANS', 100_000)
    for progressive in False, True:
        noise.save(tmp_path / 'a.jpg', progressive=progressive)
        if not progressive:
            assert check_file(tmp_path / 'a.jpg')[0] == (3000, 4000)
            continue
        with pytest.raises(BadImage, match=r'^too big: a progressive JPEG of .* at most 100,000 are read'):
            check_file(tmp_path / 'a.jpg')


def test_numbers_in_the_exif_of_a_tiff_are_not_parsed(tmp_path):
    # Pillow's load() would parse 25 million unused numbers: 900 MiB and 2 s
    directory = struct.pack('<HHHIII', 1, 40_000, 3, 25_000_000, 4000, 0)
    data = tiff(exif=(4, 1, directory)) + bytes(50_000_000)
    (tmp_path / 'a').write_bytes(data)
    began = process_time()
    assert check_file(tmp_path / 'a')[0] == (32, 32)
    assert process_time() - began < 0.5
