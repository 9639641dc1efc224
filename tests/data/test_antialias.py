"""Images are resized as by Pillow's filters, and shrinking changes little of what a crop shows."""

import random

import albumentations as A
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from config.recipes import PLATEAU
from data.antialias import RandomResizedCrop, resize, shrink
from data.augment import get_transforms
from data.decode import open_shrunk

FILTERS = {'bilinear': Image.Resampling.BILINEAR, 'bicubic': Image.Resampling.BICUBIC}


@pytest.fixture(scope='module')
def photographs():
    """Two photographs, 640 pixels wide and 427 high."""
    return load_sample_images().images


def difference(a, b):
    return np.abs(np.asarray(a, float) - np.asarray(b, float))


@pytest.mark.parametrize(('mode', 'size'), [
    *((mode, size) for mode in FILTERS for size in ((224, 224), (100, 300), (427, 200), (427, 640))),
    ('bilinear', (500, 700)),
])  # fmt: skip
def test_the_filters_are_pillows(photographs, mode, size):
    for image in photographs:
        expected = Image.fromarray(image).resize(size[::-1], FILTERS[mode])
        assert difference(resize(image, size, mode), expected).max() <= 1


def test_a_part_of_a_read_only_image_is_resized(photographs):
    part = np.frombuffer(photographs[0].tobytes(), np.uint8).reshape(427, 640, 3)[20:220, 30:330]
    assert not part.flags.writeable
    expected = Image.fromarray(part).resize((60, 50), Image.Resampling.BILINEAR)
    assert difference(resize(part, (50, 60)), expected).max() <= 1


def test_shrinking_keeps_proportions_and_small_images():
    image = np.zeros((400, 1000, 3), np.uint8)
    assert shrink(image, 200).shape == (200, 500, 3)
    assert shrink(image.swapaxes(0, 1), 200).shape == (500, 200, 3)
    assert shrink(image, 400) is image


def test_a_crop_has_albumentations_own_draws(photographs):
    """Its coordinates are those of `A.ReplayCompose`, and its pixels Pillow's for these."""
    ours = A.ReplayCompose([RandomResizedCrop((96, 96), scale=(0.35, 1.0))])
    theirs = A.ReplayCompose([A.RandomResizedCrop((96, 96), scale=(0.35, 1.0))])
    shares = []
    for seed in range(30):
        done = []
        for compose in ours, theirs:
            compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
            done.append(compose(image=photographs[0]))
        left, top, right, bottom = done[0]['replay']['transforms'][0]['params']['crop_coords']
        assert (left, top, right, bottom) == done[1]['replay']['transforms'][0]['params']['crop_coords']
        crop = Image.fromarray(photographs[0][top:bottom, left:right])
        assert difference(done[0]['image'], crop.resize((96, 96), Image.Resampling.BILINEAR)).max() <= 1
        shares.append((right - left) * (bottom - top) / (427 * 640))
    assert 0.34 < min(shares) < 0.5
    assert 0.8 < max(shares) <= 1


@pytest.mark.parametrize(('size', 'side'), [(96, 163), (128, 217)])
def test_a_photograph_that_was_shrunk_looks_the_same(photographs, size, side):
    """In validation, on average less than 1 of 255 differs from the same filter on the whole photograph."""
    valid = A.Compose(get_transforms(PLATEAU, (size, size), True, 'cached-1')[1].transforms[:-2])
    for image in photographs:
        changes = difference(valid(image=shrink(image, side))['image'], valid(image=image)['image'])
        assert 0 < changes.mean() < 1
        assert np.quantile(changes, 0.99) <= 6
        assert changes.max() <= 15


@pytest.mark.parametrize(('size', 'side'), [(64, 109), (96, 163)])
def test_a_jpeg_that_is_decoded_at_half_its_size_looks_the_same(photographs, tmp_path, size, side):
    valid = A.Compose(get_transforms(PLATEAU, (size, size), True, 'cached-1')[1].transforms[:-2])
    for image in photographs:
        Image.fromarray(image).save(tmp_path / 'a.jpg', quality=90)
        with Image.open(tmp_path / 'a.jpg') as im:
            whole = valid(image=np.array(im))['image']
            im = Image.open(tmp_path / 'a.jpg')
            im.draft(None, (side, side))
            assert im.size == (320, 214)
        changes = difference(valid(image=open_shrunk(tmp_path / 'a.jpg', side))['image'], whole)
        assert changes.mean() < 2.5
        assert np.quantile(changes, 0.99) <= 15


def test_the_centre_of_a_photograph_is_that_of_earlier_runs(photographs):
    """The filter differs from theirs: OpenCV's INTER_AREA."""
    ways = [A.Compose(get_transforms(PLATEAU, (96, 96), True, p)[1].transforms[:-2]) for p in ('direct', 'cached-1')]
    for image in photographs:
        direct, cached = (valid(image=image)['image'] for valid in ways)
        assert 0 < difference(direct, cached).mean() < 3
