"""OpenCV decodes JPEGs to Pillow's pixels."""

from functools import partial

import numpy as np
import pytest
from bad_images import exif
from PIL import Image

from data.decode import open_shrunk
from data.jpeg import decode_jpeg

KINDS = {
    'quality 50': partial(Image.Image.save, quality=50),
    'full colours': partial(Image.Image.save, quality=95, subsampling='4:4:4'),
    'half the colours': partial(Image.Image.save, subsampling='4:2:2'),
    'progressive': partial(Image.Image.save, progressive=True),
    'restart markers': partial(Image.Image.save, restart_marker_rows=1),
    'stored as RGB': partial(Image.Image.save, keep_rgb=True),
}


@pytest.fixture
def photograph():
    """Smooth colours with noise, 403 pixels wide and 301 high: no multiple of a JPEG's blocks."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((403, 301), Image.BICUBIC)
    noise = rng.integers(-20, 21, (301, 403, 3))
    return Image.fromarray((np.asarray(smooth) + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('mode', ['RGB', 'L'])
@pytest.mark.parametrize(('shorter', 'height'), [(301, 301), (151, 301), (150, 151), (75, 76), (37, 38), (1, 38)])
def test_the_pixels_are_pillows_at_each_scale(photograph, tmp_path, kind, mode, shorter, height):
    KINDS[kind](photograph.convert(mode), tmp_path / 'a.jpg')
    with Image.open(tmp_path / 'a.jpg') as im:
        got = decode_jpeg(im, tmp_path / 'a.jpg', shorter)
        im.draft(None, (shorter, shorter))
        np.testing.assert_array_equal(got, np.asarray(im.convert('RGB')))
    assert len(got) == height


@pytest.mark.parametrize('turn', range(1, 9))
def test_an_image_is_turned_upright(photograph, tmp_path, turn):
    photograph.save(tmp_path / 'a.jpg', exif=exif(turn))
    stored = np.asarray(Image.open(tmp_path / 'a.jpg'))
    upright = {1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.swapaxes(0, 1),
               6: np.rot90(stored, -1), 7: stored[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(stored)}  # fmt: skip
    np.testing.assert_array_equal(open_shrunk(tmp_path / 'a.jpg', 301), upright[turn])


def test_other_files_are_left_to_pillow(photograph, tmp_path):
    photograph.save(tmp_path / 'a.png')
    photograph.convert('CMYK').save(tmp_path / 'cmyk.jpg')
    for name in 'a.png', 'cmyk.jpg':
        with Image.open(tmp_path / name) as im:
            assert decode_jpeg(im, tmp_path / name, 50) is None
        whole = np.asarray(Image.open(tmp_path / name).convert('RGB'))
        np.testing.assert_array_equal(open_shrunk(tmp_path / name, 301), whole)
