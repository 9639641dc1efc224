from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from interpret.report.embedded import embedded_image


def decoded(attributes) -> np.ndarray:
    with Image.open(BytesIO(b64decode(attributes['src'].partition(',')[2]))) as image:
        return np.asarray(image.convert('RGB'))


@pytest.mark.parametrize(('size', 'crisp'), [((63, 20), True), ((64, 20), False), ((20, 64), False)])
def test_images_under_64_pixels_are_exact_and_have_sharp_pixels(size, crisp):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    attributes = embedded_image(Image.fromarray(pixels), 384)
    assert (attributes['width'], attributes['height']) == size
    assert (attributes['class'] == 'crisp') == crisp
    assert (decoded(attributes) == pixels).all() == crisp


def test_larger_images_are_shrunk():
    attributes = embedded_image(Image.new('RGB', (800, 600)), 384)
    assert (attributes['width'], attributes['height']) == (384, 288)
    assert decoded(attributes).shape == (288, 384, 3)
