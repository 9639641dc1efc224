"""A folder of 1,000 broken or unusual image files, with the expected result for each."""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

DAMAGE = r'^(damaged|truncated|empty$|not a JPEG|too big|\d+x\d+, the others are 32x32$|32-bit pixels)'
TOO_BIG, NO_IMAGE, NO_FILE = (
    '^too big',
    '^not a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM image$',
    '^a pipe, socket or dev',
)
EPS = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n'
ODD_SIZE = r'^\d+x\d+, the others are 32x32$'


@dataclass(frozen=True)
class Case:
    """A file that is used as `pixels` (H x W x 3), or refused for `reason` (a regex); with both, either is correct.

    If the format has no `checksum`, damage may also change pixels undetectably.
    """

    file: Path
    kind: str
    pixels: np.ndarray | None = None
    reason: str | None = None
    checksum: bool = True
    tolerance: int = 0  # maximum difference of a pixel value


def pixels_of(rng: np.random.Generator, side: int = 32) -> np.ndarray:
    """8x8 coloured squares: a small file in any format, at most 64 colours, no rotational symmetry."""
    return rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(side // 8, 0).repeat(side // 8, 1)


def saved(image: Image.Image | np.ndarray, **kwargs) -> bytes:
    """The bytes of `image` as saved by Pillow."""
    out = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, **kwargs)
    return out.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """The pixels of an intact lossy file."""
    return np.asarray(Image.open(BytesIO(data)).convert('RGB'))


# extension, function from 32x32x3 pixels to a file, whether it is lossless, whether a checksum covers its data
ENCODERS: dict[str, tuple[str, Callable[[np.ndarray], bytes], bool, bool]] = {
    'jpeg': ('jpg', partial(saved, format='JPEG', quality=85), False, False),
    'progressive jpeg': ('jpg', partial(saved, format='JPEG', progressive=True), False, False),
    'png': ('png', partial(saved, format='PNG'), True, True),
    'webp': ('webp', partial(saved, format='WEBP'), False, False),
    'lossless webp': ('webp', partial(saved, format='WEBP', lossless=True), True, False),
    'bmp': ('bmp', partial(saved, format='BMP'), True, False),
    'tiff': ('tif', partial(saved, format='TIFF'), True, False),
    'deflated tiff': ('tif', partial(saved, format='TIFF', compression='tiff_adobe_deflate'), True, False),
    'gif': ('gif', lambda a: saved(Image.fromarray(a).quantize(64), format='GIF'), False, False),
}  # fmt: skip


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A valid PNG; `rows` are deflated, `chunks` come before them."""
    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    parts = [(b'IHDR', header), *chunks, (b'IDAT', zlib.compress(rows, 1)), (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body)) for name, body in parts
    )


def tiff(**tags: int) -> bytes:
    """A grey TIFF of the given size and tiling, with hardly any pixel data."""
    numbers = {'width': 256, 'height': 257, 'bits': 258, 'compression': 259, 'photometric': 262, 'offset': 273,
               'rows': 278, 'bytes': 279, 'tile_width': 322, 'tile_height': 323, 'tile': 324,
               'in_tile': 325}  # fmt: skip
    entries = b''.join(struct.pack('<HHII', numbers[name], 4, 1, value) for name, value in tags.items())
    return b'II*\0\x08\0\0\0' + struct.pack('<H', len(tags)) + entries + bytes(4) + zlib.compress(bytes(1000))


def gif(screen: int, frame: int) -> bytes:
    """A GIF whose screen and only frame have the given side lengths, with hardly any pixel data."""
    sides = struct.pack('<HH', screen, screen), struct.pack('<HH', frame, frame)
    return b'GIF89a' + sides[0] + b'\x80\0\0' + bytes(6) + b',' + bytes(4) + sides[1] + b'\0\x02\x01\x44\0;'


def exif(orientation: int) -> bytes:
    """EXIF data with only an orientation."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@cache
def largest() -> dict[str, bytes]:
    """Files of the largest accepted size, in the formats that need the most memory; creating them takes seconds."""
    grey = Image.new('L', (10_000, 8000), 100)
    return {
        'progressive.jpg': saved(grey, format='JPEG', progressive=True),
        'flat.webp': saved(grey.convert('RGB').resize((8000, 5000)), format='WEBP', method=0),
        'deep.png': png(10_000, 8000, 16, 0, bytes(20_001 * 8000)),
    }


def _used(rng: np.random.Generator) -> Iterator[tuple[str, str, bytes, np.ndarray, int]]:
    """Unusual files that must be used: kind, name, content, expected pixels, tolerance."""
    for kind, (_, encode, exact, _) in ENCODERS.items():
        a = pixels_of(rng)
        shown = a if exact else decoded(encode(a))
        for ext in 'jpg', 'png', 'webp', 'gif', 'txt', '':
            yield 'wrong or other extension', f'{kind}.{ext}', encode(a), shown, 0
        if kind != 'lossless webp':
            yield 'something behind the image', f'{kind} and more', encode(a) + b'\r\n and more', shown, 0
    upright = {1: np.array, 2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
               6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: np.rot90}  # fmt: skip
    for turn, show in upright.items():
        for ext, options in ('jpg', {'format': 'JPEG'}), ('png', {'format': 'PNG'}), ('tif', {'format': 'TIFF'}), (
            'webp', {'format': 'WEBP', 'lossless': True}):  # fmt: skip
            a = pixels_of(rng)
            shown = show(decoded(saved(a, **options)))
            yield 'EXIF-rotated', f'{turn}.{ext}', saved(a, **options, exif=exif(turn)), shown, 0
    first, *others = frames = [Image.fromarray(pixels_of(rng)) for _ in range(3)]
    several = {'save_all': True, 'append_images': others}
    for name, options in {
        'a.png': {'format': 'PNG'}, 'a.webp': {'format': 'WEBP', 'lossless': True}, 'pages.tif': {'format': 'TIFF'},
    }.items():  # fmt: skip
        yield 'animated or with pages', name, saved(first, **options, **several), np.asarray(first), 0
    yield (
        'animated or with pages',
        'mpo.jpg',
        saved(first, format='MPO', **several),
        decoded(saved(first, format='JPEG')),
        0,
    )
    grey = [Image.fromarray(np.asarray(f)[..., 0] // 32 * 32) for f in frames]
    shown = np.asarray(grey[0])[..., None].repeat(3, 2)
    yield (
        'animated or with pages',
        'a.gif',
        saved(grey[0], format='GIF', save_all=True, append_images=grey[1:]),
        shown,
        0,
    )
    ink = pixels_of(rng).astype(int)
    ink = np.dstack([ink, ink[::-1, :, 0]])
    shown = np.round((255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255).astype(np.uint8)
    cmyk = Image.fromarray(ink.astype(np.uint8), 'CMYK')
    yield 'CMYK', 'cmyk.tif', saved(cmyk, format='TIFF'), shown, 1
    for options in {}, {'progressive': True}:
        yield 'CMYK', f'{options}.jpg', saved(cmyk, format='JPEG', quality=100, subsampling=0, **options), shown, 12
    deep = rng.integers(0, 2**16, (32, 32, 3), np.uint16)
    for ext in 'png', 'tif':
        grey16 = cv2.imencode(f'.{ext}', deep[..., 0])[1].tobytes()
        yield '16-bit', f'grey.{ext}', grey16, (deep[..., :1] >> 8).astype(np.uint8).repeat(3, 2), 0
    yield '16-bit', 'rgb.png', cv2.imencode('.png', deep[..., ::-1])[1].tobytes(), (deep >> 8).astype(np.uint8), 0
    a = pixels_of(rng)
    yield 'transparent', 'rgba.png', saved(np.dstack([a, a[..., 0]]), format='PNG'), a, 0
    yield 'transparent', 'la.png', saved(Image.fromarray(a[..., :2], 'LA'), format='PNG'), a[..., :1].repeat(3, 2), 0
    yield (
        '1-bit',
        'a.png',
        saved(Image.fromarray(a[..., 0] > 99), format='PNG'),
        (a[..., :1] > 99).repeat(3, 2) * 255,
        0,
    )
    yield 'profile', 'icc.png', png(32, 32, 8, 2, b''.join(b'\0' + row.tobytes() for row in a),
                                    (b'iCCP', b'x\0\0' + zlib.compress(bytes(1000)))), a, 0  # fmt: skip
    for name in (
        'line\nbreak.png',
        'esc\x1b[2J.png',
        'bytes\udcff.png',
        '-rf.png',
        'ünïcödé 图.png',
        "it's, a.png",
        '=1.png',
    ):
        yield 'odd name', name, saved(a, format='PNG'), a, 0


def _refused(rng: np.random.Generator) -> Iterator[tuple[str, str, bytes, str]]:
    """Files that must be refused: kind, name, content, reason."""
    for ext in 'jpg', 'png', 'webp', 'gif', 'bmp', 'tif':
        yield 'zero length', f'a.{ext}', b'', '^empty$'
        for name, text in {
            'text': b'no image', 'html': b'<!DOCTYPE html><p>404', 'zeros': bytes(3000), 'noise': rng.bytes(3000),
            'eps': EPS, 'pdf': b'%PDF-1.7\n',
            'svg': b'<svg xmlns="http://www.w3.org/2000/svg"/>', 'pickle': b'\x80\x04cos\nsystem\n',
            'xbm': b'#define a_width 32\n#define a_height 32\nstatic char a_bits[] = {',
        }.items():  # fmt: skip
            yield 'no image', f'{name}.{ext}', text, NO_IMAGE
    yield 'no image', 'icon.png', saved(pixels_of(rng), format='ICO'), NO_IMAGE
    for width, height in (1, 1), (20_000, 1), (1, 20_000), (2, 3), (32, 31):
        for ext, form in ('jpg', 'JPEG'), ('png', 'PNG'), ('tif', 'TIFF'), ('bmp', 'BMP'), ('gif', 'GIF'):
            yield 'odd size', f'{width}x{height}.{ext}', saved(Image.new('L', (width, height)), format=form), ODD_SIZE
    yield 'odd size', '1x1.webp', saved(Image.new('RGB', (1, 1)), format='WEBP'), ODD_SIZE
    yield 'odd size', '16000x1.webp', saved(Image.new('RGB', (16_000, 1)), format='WEBP'), ODD_SIZE
    yield '20,000 px', 'square.png', png(20_000, 20_000, 1, 0, bytes(2501 * 20_000)), TOO_BIG
    for name, data in largest().items():
        yield '80 megapixels', name, data, ODD_SIZE
    jpeg = saved(Image.new('L', (2048, 2048), 100), format='JPEG', progressive=True)
    scan = jpeg[jpeg.rindex(b'\xff\xda') : -2]
    yield 'bomb', 'scans.jpg', jpeg[:-2] + scan * 10_000 + b'\xff\xd9', 'a JPEG with 10,'
    big = 2**16 - 1
    yield 'bomb', 'png.png', png(2**31 - 1, 2**31 - 1, 8, 2, b''), TOO_BIG
    yield 'bomb', 'jpg.jpg', jpeg.replace(struct.pack('>HH', 2048, 2048), struct.pack('>HH', big, big), 1), TOO_BIG
    yield 'bomb', 'screen.gif', gif(big, 32), TOO_BIG
    yield 'bomb', 'frame.gif', gif(32, big), TOO_BIG
    small = {'bits': 8, 'compression': 8, 'photometric': 1}
    yield 'bomb', 'tiff.tif', tiff(width=60_000, height=60_000, **small, offset=200, rows=60_000, bytes=17), TOO_BIG
    for side in 2**14, 2**15, 2**16:
        tile = {'tile_width': side, 'tile_height': side, 'tile': 200, 'in_tile': 17}
        yield 'bomb', f'tile {side}.tif', tiff(width=32, height=32, **small, **tile), TOO_BIG
    bmp = bytearray(saved(pixels_of(rng), format='BMP'))
    bmp[18:26] = struct.pack('<II', 60_000, 60_000)
    yield 'bomb', 'bmp.bmp', bytes(bmp), TOO_BIG
    webp = saved(Image.new('RGB', (16_383, 1)), format='WEBP', lossless=True)
    at = webp.index(b'VP8L') + 9
    yield 'bomb', 'webp.webp', webp[:at] + struct.pack('<I', 16_382 | 16_382 << 14) + webp[at + 4 :], TOO_BIG
    rows = b''.join(b'\0' + bytes(96) for _ in range(32))
    much = zlib.compress(bytes(2**26), 1)
    yield 'bomb', 'ztxt.png', png(32, 32, 8, 2, rows, (b'zTXt', b'Comment\0\0' + much)), TOO_BIG
    yield 'bomb', 'itxt.png', png(32, 32, 8, 2, rows, (b'iTXt', b'Comment\0\1\0\0\0' + much)), TOO_BIG
    yield 'bomb', 'iccp.png', png(32, 32, 8, 2, rows, (b'iCCP', b'x\0\0' + much)), TOO_BIG
    for mode in 'I', 'F':
        yield '32-bit', f'{mode}.tif', saved(Image.new(mode, (32, 32)), format='TIFF'), '^32-bit pixels'


def _no_files(root: Path) -> Iterator[tuple[str, Path, np.ndarray | None, str | None]]:
    """Create folder entries that are not files: kind, path, expected pixels or reason."""
    good = root / 'train/cat/good 0.png'
    shown = np.asarray(Image.open(good))
    for split in 'train', 'test':
        folder = root / split / 'dog'
        (folder / 'folder.png').mkdir()
        yield 'directory', folder / 'folder.png', None, '^a folder, not a file$'
        os.mkfifo(folder / 'pipe.png')
        yield 'FIFO', folder / 'pipe.png', None, NO_FILE
        for name, target, reason in (
            ('broken', 'nowhere.png', '^a broken link$'), ('loop', 'link loop.png', '^a broken link$'),
            ('zero', '/dev/zero', NO_FILE), ('stdin', '/dev/stdin', NO_FILE), ('pipe', 'pipe.png', NO_FILE),
            ('tty', '/dev/tty', NO_FILE), ('folder', '..', '^a folder'), ('good', good, None),
        ):  # fmt: skip
            (folder / f'link {name}.png').symlink_to(target)
            yield 'link', folder / f'link {name}.png', None if reason else shown, reason


def write_corpus(root: Path, seed: int = 0, n: int = 1000, good: int = 600) -> list[Case]:
    """Write `n` broken or unusual files and `good` good ones to `root`/{train,test}/{cat,dog}; return all cases.

    The good ones are 32x32 PNGs. Nearly half of the others are the nine encodings truncated to 1 byte up to all but 1;
    the last ones, up to `n`, have one changed byte. The same seed creates the same folder.
    """
    rng = np.random.default_rng(seed)
    cases = []

    def write(kind: str, name: str, data: bytes, *args) -> None:
        folder = root / ('train', 'test')[len(cases) % 2] / ('cat', 'dog')[len(cases) // 2 % 2]
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f'{kind} {name}' if kind != 'odd name' else folder / name
        file.write_bytes(data)
        cases.append(Case(file, kind, *args))

    for i in range(good):
        a = pixels_of(rng)
        write('good', f'{i}.png', saved(a, format='PNG'), a)
    for kind, name, data, shown, tolerance in _used(rng):
        write(kind, name, data, shown, None, True, tolerance)
    for kind, name, data, reason in _refused(rng):
        write(kind, name, data, None, reason)
    cases += [Case(file, kind, shown, reason) for kind, file, shown, reason in _no_files(root)]

    files = []
    for name, (ext, encode, exact, checksum) in ENCODERS.items():
        a = pixels_of(rng)
        data = encode(a)
        files.append((name, ext, data, a if exact else decoded(data), checksum))
        for i, length in enumerate(np.linspace(1, len(data) - 1, 50).astype(int)):
            write('truncated', f'{name} {i}.{ext}', data[:length], files[-1][3], DAMAGE)
    while len(cases) < good + n:
        name, ext, data, shown, checksum = files[len(cases) % len(files)]
        i, other = int(rng.integers(len(data))), int(rng.integers(1, 256))
        data = data[:i] + bytes([data[i] ^ other]) + data[i + 1 :]
        write('flipped byte', f'{name} {len(cases)}.{ext}', data, shown, DAMAGE, checksum)
    return cases
