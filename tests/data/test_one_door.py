"""Every form of an image (path, bytes, array, PIL) gives the same pixels and stays unchanged."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from bad_images import exif, saved
from fastai.vision.core import PILImage
from PIL import Image, ImageOps
from tiny import TINY, tiny_dls, write_images

from data.decode import check_file, open_rgb, read_any, to_rgb
from data.limits import BadImage
from data.prediction import unseen_dls
from training.saved_run import load_model

SIDE = 24, 18  # width, height; every rotation differs
COLOURS = np.random.default_rng(0).integers(0, 256, (*SIDE[::-1], 4), np.uint8)
DEEP = np.random.default_rng(1).integers(0, 2**16, (*SIDE[::-1], 3), np.uint16)
RGB = Image.fromarray(COLOURS[..., :3])
PALETTE = RGB.quantize(32)
DEEP_GREY = Image.fromarray(DEEP[..., 0])
KINDS = {  # name: image, options of save
    'jpeg': (RGB, {'format': 'JPEG'}),
    'progressive jpeg': (RGB, {'format': 'JPEG', 'progressive': True}),
    'grey jpeg': (RGB.convert('L'), {'format': 'JPEG'}),
    'CMYK jpeg': (Image.fromarray(COLOURS, 'CMYK'), {'format': 'JPEG'}),
    'CMYK tiff': (Image.fromarray(COLOURS, 'CMYK'), {'format': 'TIFF'}),
    'deflated tiff': (RGB, {'format': 'TIFF', 'compression': 'tiff_adobe_deflate'}),
    'png': (RGB, {'format': 'PNG'}),
    'transparent colour': (RGB, {'format': 'PNG', 'transparency': (1, 2, 3)}),
    'grey': (RGB.convert('L'), {'format': 'PNG'}),
    'grey with transparency': (Image.fromarray(COLOURS[..., :2], 'LA'), {'format': 'PNG'}),
    'RGBA': (Image.fromarray(COLOURS), {'format': 'PNG'}),
    'RGBA webp': (Image.fromarray(COLOURS), {'format': 'WEBP', 'lossless': True}),
    'bitmap': (RGB.convert('1'), {'format': 'PNG'}),
    'palette': (PALETTE, {'format': 'PNG'}),
    'palette with transparent colour': (PALETTE, {'format': 'PNG', 'transparency': 3}),
    'palette with transparency': (PALETTE, {'format': 'PNG', 'transparency': bytes(range(0, 256, 8))}),
    'gif': (PALETTE, {'format': 'GIF', 'transparency': 3}),
    'bmp': (PALETTE, {'format': 'BMP'}),
    'ppm': (RGB, {'format': 'PPM'}),
    '16-bit png': (DEEP_GREY, {'format': 'PNG'}),
    '16-bit tiff': (DEEP_GREY, {'format': 'TIFF'}),
}
UPRIGHT = {1: np.array, 2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
           6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: np.rot90}  # fmt: skip


def contents(kind: str) -> Iterator[tuple[int, bytes]]:
    """Each EXIF orientation that the format can store, with the file."""
    image, options = KINDS[kind]
    yield 1, saved(image, **options)
    if options['format'] in ('JPEG', 'PNG', 'WEBP', 'TIFF'):
        for turn in UPRIGHT:
            yield turn, saved(image, **options, exif=exif(turn))


def loaded(file: Path) -> Image.Image:
    im = Image.open(BytesIO(file.read_bytes()))  # opened by name, Pillow 13 doesn't turn an uncompressed TIFF
    im.load()
    return im


def forms(file: Path) -> Iterator[tuple[str, object]]:
    """All forms in which the image of `file` can be passed."""
    data = file.read_bytes()
    yield from {'str': str(file), 'bytes': data, 'lazy': Image.open(file), 'loaded': loaded(file)}.items()
    yield from {'lazy, of memory': Image.open(BytesIO(data)), 'copy': loaded(file).copy()}.items()
    im = ImageOps.exif_transpose(loaded(file))
    yield 'turned by hand', im
    if im.mode in ('L', 'LA', 'RGB', 'RGBA', 'I;16'):
        yield 'array', np.asarray(im)
    if im.mode == 'L':
        yield 'array with a channel', np.asarray(im)[..., None]
    if im.mode.startswith('I'):
        yield 'array of the other byte order', np.asarray(im).byteswap().view('>u2')
    else:  # fastai would clip it
        yield 'PILImage', PILImage.create(BytesIO(data))
        yield 'cast PILImage', PILImage(loaded(file))
        yield 'array of its colours', np.asarray(im.convert('RGB'))


def state(item: object) -> list:
    """The state of an image that a caller sees without loading it."""
    if not isinstance(item, Image.Image):
        return [type(item), item.tobytes() if isinstance(item, np.ndarray) else item]
    fp = getattr(item, 'fp', None)
    return [type(item), item.mode, item.size, {**item.info}, item._im is None, fp and (fp.closed, fp.tell())]


@pytest.fixture(scope='module', params=['trained as they are', 'resized', 'unseen', 'unseen and resized'])
def seen(request, tmp_path_factory):
    """The network's input for some items, from one of the four loaders, and orientations to try."""
    resized = 'resized' in request.param
    if 'unseen' in request.param:
        dls = unseen_dls(TINY, ['a', 'b'], (16, 16), resized)
    else:
        images = write_images(tmp_path_factory.mktemp('images'), size=(20, 30) if resized else (16, 16))
        dls = tiny_dls(images, size=16 if resized else None)
    turns = UPRIGHT if request.param == 'unseen' else (1, 6)
    return turns, lambda items: torch.cat([torch.Tensor(x) for (x,) in dls.test_dl(items, num_workers=0)])


@pytest.mark.parametrize('kind', KINDS)
def test_an_image_is_the_same_in_every_form(kind, seen, tmp_path):
    turns, network_gets = seen
    for turn, data in contents(kind):
        if turn in turns:
            (tmp_path / f'{turn}').write_bytes(data)
    files = sorted(tmp_path.iterdir())
    named = [(file, form, item) for file in files for form, item in forms(file)]
    before = [state(item) for *_, item in named]
    expected, got = dict(zip(files, network_gets(files), strict=True)), network_gets([item for *_, item in named])
    for (file, form, item), x, was in zip(named, got, before, strict=True):
        assert torch.equal(x, expected[file]), (file.name, form)
        assert state(item) == was, (file.name, form)
        if form.startswith('lazy'):
            item.load()  # still works
            again = Image.open(file) if form == 'lazy' else loaded(file)
            np.testing.assert_array_equal(np.asarray(item), np.asarray(again))


@pytest.mark.parametrize('kind', KINDS)
def test_a_file_is_upright_and_8_bit_rgb(kind, tmp_path):
    image, options = KINDS[kind]
    file = tmp_path / 'image'
    for turn, data in contents(kind):
        file.write_bytes(data)
        flat = DEEP[..., :1] >> 8 if image is DEEP_GREY else np.asarray(loaded(file).convert('RGB'))
        if options['format'] != 'TIFF' or image is DEEP_GREY:  # Pillow turns TIFFs by itself
            flat = UPRIGHT[turn](flat)
        np.testing.assert_array_equal(np.asarray(open_rgb(file)), np.broadcast_to(flat, (*flat.shape[:2], 3)))
        assert check_file(file)[0] == flat.shape[:2]


def test_16_bit_colours_keep_their_high_byte(tmp_path):
    cv2.imwrite(str(tmp_path / 'deep.png'), DEEP[..., ::-1])
    for item in (tmp_path / 'deep.png', DEEP, DEEP.astype('>u2')):
        np.testing.assert_array_equal(np.asarray(read_any(item)), DEEP >> 8)


def test_a_16_bit_png_of_pillow_before_11_3(tmp_path):
    im = Image.fromarray(DEEP[..., 0].astype(np.int32))
    with pytest.raises(BadImage, match=r'^32-bit pixels'):
        read_any(im)
    im.format = 'PNG'
    np.testing.assert_array_equal(np.asarray(read_any(im))[..., 0], DEEP[..., 0] >> 8)


def test_the_frame_that_the_caller_chose_is_used(tmp_path):
    frames = [Image.fromarray(COLOURS[..., i]) for i in range(3)]
    frames[0].save(tmp_path / 'a.tif', save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / 'a.tif') as im:
        for i in (2, 0, 1):
            im.seek(i)
            np.testing.assert_array_equal(np.asarray(read_any(im))[..., 0], COLOURS[..., i])
            assert im.tell() == i


def test_a_large_jpeg_that_is_loaded_differs_a_little(tmp_path):
    smooth = Image.fromarray(COLOURS[:3, :4, :3]).resize((1200, 900), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / 'a.jpg', quality=95)
    dls = unseen_dls(TINY, ['a', 'b'], (32, 32), True)
    path, lazy, whole = (
        torch.Tensor(dls.test_dl([item]).one_batch()[0])
        for item in (tmp_path / 'a.jpg', Image.open(tmp_path / 'a.jpg'), loaded(tmp_path / 'a.jpg'))
    )
    assert torch.equal(path, lazy)
    assert 0 < (path - whole).abs().max() < 0.1  # standard deviations; one is about 60 of 255


@pytest.mark.parametrize('item', [
    np.zeros((9, 9), np.float32), np.zeros((9, 9, 3), np.int64), np.zeros((3, 9, 9), np.uint8), np.zeros(9, np.uint8),
    np.zeros((0, 9), np.uint8), np.zeros((1, 9, 9, 3), np.uint8), np.zeros((9, 9), bool),
])  # fmt: skip
def test_an_array_of_another_type_or_shape_is_refused_in_one_line(item):
    with pytest.raises(BadImage) as e:
        read_any(item)
    said = f'an array of {item.dtype}, {item.shape}: give uint8 or uint16, height x width or height x width x 3'
    assert str(e.value) == said


@pytest.mark.parametrize(('mode', 'reason'), [('F', '^32-bit'), ('I', '^32-bit'), ('La', 'conversion from La')])
def test_a_pil_image_without_rgb_is_refused_in_one_line(mode, reason):
    with pytest.raises(BadImage, match=reason):
        read_any(Image.new(mode, (9, 9)))


def test_a_learner_predicts_the_same_for_every_form(run, tmp_path):
    learn, file = load_model(run), tmp_path / 'a.jpg'
    RGB.save(file, exif=exif(6))
    expected = learn.predict(file)[2]
    for form, item in forms(file):
        assert torch.equal(learn.predict(item)[2], expected), form


def test_a_copy_does_not_share_its_pixels():
    im = RGB.copy()
    to_rgb(im).putpixel((0, 0), (9, 9, 9))
    assert im.getpixel((0, 0)) == RGB.getpixel((0, 0))
