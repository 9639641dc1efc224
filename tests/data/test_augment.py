from dataclasses import replace

import albumentations as A
import numpy as np
import pytest
import torch
from fastai.data.transforms import Normalize
from fastai.vision.augment import Resize
from fastai.vision.core import PILImage
from fastai.vision.data import ImageDataLoaders
from tiny import write_images

from config.recipes import PLATEAU, REFERENCE
from data.augment import AlbumentationsTransform, OpenImage, get_transforms
from data.limits import BadImage

SIZE = 16, 24  # height, width


@pytest.fixture
def image():
    return PILImage.create(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))


def transform(recipe):
    return AlbumentationsTransform(*get_transforms(recipe, SIZE))


def hole(x):
    """Rows and columns of the hole: only there all channels are exactly 0."""
    grey = (x == 0).all(0)
    return grey.any(1).nonzero().flatten(), grey.any(0).nonzero().flatten()


def test_validation_only_normalises(image):
    x = transform(REFERENCE)(image, split_idx=1)
    pixels = np.asarray(image).transpose(2, 0, 1)
    # (p / 255 - 0.5) / 0.5, in [-1, 1]
    np.testing.assert_allclose(x, pixels / 127.5 - 1, atol=1e-6)
    assert x.dtype == torch.float32


def test_the_test_set_gets_the_validation_transforms(image):
    t = transform(PLATEAU)
    assert torch.equal(t(image, split_idx=1), t(image, split_idx=2))


@pytest.mark.parametrize('recipe', [PLATEAU, REFERENCE])
def test_decoding_restores_the_true_colours(recipe, image):
    t = transform(recipe)
    decoded = t.decode(t(image, split_idx=1))
    np.testing.assert_allclose(decoded.permute(1, 2, 0), np.asarray(image) / 255, atol=1e-6)


def test_hole_is_one_mid_grey_rectangle_of_half_the_sides(image):
    t = transform(replace(REFERENCE, flip=0.0))
    plain = t(image, split_idx=1)
    for draw in range(20):
        t.key = (draw,)
        x = t(image, split_idx=0)
        rows, cols = hole(x)
        assert (len(rows), len(cols)) == (8, 12)
        assert (x[:, rows[0] : rows[0] + 8, cols[0] : cols[0] + 12] == 0).all()
        assert (x != plain).any(0).sum() == 8 * 12  # nothing else has changed
        decoded = t.decode(x)[:, rows[0], cols[0]]
        torch.testing.assert_close(torch.Tensor(decoded), torch.full((3,), 0.5))


def test_crop_is_a_window_of_the_image_with_mirrored_borders(image):
    recipe = replace(PLATEAU, flip=0.0, hole=0.0)
    t = transform(recipe)
    pixels = np.asarray(image)
    padded = np.pad(pixels, ((2, 2), (3, 3), (0, 0)), mode='reflect')  # an eighth of 16 and of 24
    windows = [padded[i : i + 16, j : j + 24] for i in range(5) for j in range(7)]
    found = set()
    for draw in range(300):
        t.key = (draw,)
        decoded = np.rint(t.decode(t(image, split_idx=0)).permute(1, 2, 0).numpy() * 255)
        (match,) = [k for k, window in enumerate(windows) if (window == decoded).all()]
        found.add(match)
    # each of the 35 windows is missed with a chance of (34/35)^300 = 1.7e-4, and these draws are seeded
    assert len(found) == 35


def test_draws_depend_on_the_key_alone(image):
    a, b = transform(PLATEAU), transform(PLATEAU)
    b(image, split_idx=0)
    for t in (a, b):
        t.key = 1, 2, 3
    assert torch.equal(a(image, split_idx=0), b(image, split_idx=0))
    assert not torch.equal(a(image, split_idx=0), b(image, split_idx=1))


def test_flip_and_hole_are_uncorrelated(image):
    t = transform(replace(PLATEAU, pad=0.0, hole=0.5))
    plain, flips, rows, cols = t(image, split_idx=1), [], [], []
    n = 2000
    for draw in range(n):
        t.key = 7, draw
        x = t(image, split_idx=0)
        outside = (x != 0).any(0)
        flips.append(torch.equal(x[:, outside], plain.flip(-1)[:, outside]))
        r, c = hole(x)
        rows.append(r[0])
        cols.append(c[0])
    correlations = np.corrcoef([flips, rows, cols])[np.triu_indices(3, 1)]
    # for independent draws each is normal with deviation 1/sqrt(2000); 4 deviations: a false alarm in 5,000 seeds
    assert np.abs(correlations).max() < 4 / np.sqrt(n)
    assert abs(np.mean(flips) - 0.5) < 4 * 0.5 / np.sqrt(n)
    assert set(map(int, rows)) == set(range(16 - 8 + 1))
    assert set(map(int, cols)) == set(range(24 - 12 + 1))


def test_an_argument_that_albumentations_ignores_is_an_error(monkeypatch):
    monkeypatch.setattr(A, 'HorizontalFlip', lambda p: A.VerticalFlip(p=p, always_apply=True))
    with pytest.raises(UserWarning, match='always_apply'):
        get_transforms(PLATEAU, SIZE)


def test_a_resized_image_is_validated_on_the_centre_of_its_shorter_side():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    x = AlbumentationsTransform(*get_transforms(REFERENCE, (28, 28), resize=True))(PILImage.create(pixels), split_idx=1)
    # 28 is 7/8 of 32, half of 64: means of 2x2 pixels, of which 2 rows and 18 columns are cut off on each side
    halved = pixels.reshape(32, 2, 64, 2, 3).mean((1, 3))[2:-2, 18:-18]
    np.testing.assert_allclose(x.permute(1, 2, 0), halved / 127.5 - 1, atol=0.51 / 127.5)


def test_a_resized_image_is_trained_on_random_parts_of_it():
    rows, cols = np.mgrid[:200, :240]
    ramp = np.stack([rows, cols, rows], -1).astype(np.uint8)  # the value tells where a pixel comes from
    recipe = replace(REFERENCE, flip=0.0, hole=0.0)
    t, shares, ratios = AlbumentationsTransform(*get_transforms(recipe, (64, 64), resize=True)), [], []
    for draw in range(300):
        t.key = (draw,)
        decoded = t.decode(t(PILImage.create(ramp), split_idx=0)) * 255
        assert decoded.shape == (3, 64, 64)
        # from the first to the last of 64 pixels' centres
        height, width = ((decoded[i].amax() - decoded[i].amin()).item() * 64 / 63 for i in (0, 1))
        shares.append(height * width / (200 * 240))
        ratios.append(width / height)
    assert 0.33 < min(shares) < 0.4
    assert 0.9 < max(shares) < 1.03
    assert 0.73 < min(ratios) < 0.78
    assert 1.28 < max(ratios) < 1.37


def grey(rows):
    return PILImage.create(np.repeat(np.array(rows, np.uint8)[..., None], 3, 2))


def opened(image, size):
    return np.asarray(OpenImage(size, resized=False)(image))[..., 0].tolist()


def test_a_wider_or_higher_image_is_cropped_at_its_ends():
    assert opened(grey([[0, 10, 20, 30], [40, 50, 60, 70]]), (2, 2)) == [[10, 20], [50, 60]]
    assert opened(grey([[0], [10], [20]]), (1, 1)) == [[10]]


def test_a_larger_image_is_averaged():
    # bilinear over all pixels: at half the size a pixel counts by 1 less half its distance, here 3/7, 3/7 and 1/7
    assert opened(grey([[0, 70, 140, 210]] * 4), (2, 2)) == [[50, 160], [50, 160]]


@pytest.mark.parametrize('shape', [(1, 1), (1, 1000), (1000, 1), (300, 200)])
def test_an_image_of_any_shape_becomes_the_size_of_the_others(shape):
    image = PILImage.create(np.zeros((*shape, 3), np.uint8))
    assert OpenImage((49, 48), resized=False)(image).shape == (49, 48)
    assert OpenImage((49, 48), resized=True)(image).shape == shape  # the other transforms resize it


@pytest.mark.parametrize(('shape', 'reason'), [((15, 40), r'^40x15, less than 16'), ((700, 20), r'^20x700, over 20 ')])
def test_an_unchecked_image_that_cannot_be_resized_is_refused(shape, reason, tmp_path):
    PILImage.create(np.zeros((*shape, 3), np.uint8)).save(tmp_path / 'x.png')
    assert OpenImage((32, 32), resized=False, check=True)(tmp_path / 'x.png').shape == (32, 32)
    with pytest.raises(BadImage, match=reason):
        OpenImage((32, 32), resized=True, check=True)(tmp_path / 'x.png')


def plain_dls(tmp_path, *composes, **kwargs):
    """fastai's own loaders of one-colour images, with a transform that only changes the scale."""
    item_tfms = [Resize(16), AlbumentationsTransform(*composes)]
    kwargs = {'train': 'train', 'valid': 'test', 'bs': 12, 'num_workers': 0, 'item_tfms': item_tfms, **kwargs}
    return ImageDataLoaders.from_folder(write_images(tmp_path / 'images', size=(16, 20)), **kwargs)


@pytest.mark.parametrize('to_float', [[], [A.ToFloat(255)], [A.Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))]])
def test_fastais_own_loaders_neither_divide_by_255_nor_normalise_again(tmp_path, to_float):
    mean, std = (torch.tensor(o)[None, :, None, None] for o in ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    compose = A.Compose([*to_float, A.ToTensorV2()])
    dls = plain_dls(tmp_path, compose, compose, batch_tfms=Normalize(mean, std))
    pixels = torch.stack([torch.from_numpy(np.asarray(PILImage.create(f))) for f in dls.valid.items])
    expected = (pixels[:, :, 2:18].permute(0, 3, 1, 2) / 255 - mean) / std  # the centre of 16x20
    for dl in dls.valid, dls.test_dl(dls.valid.items):
        torch.testing.assert_close(torch.Tensor(dl.one_batch()[0]), expected, rtol=1e-5, atol=1e-5)
    shown = dls.valid._pre_show_batch(dls.valid.one_batch(), max_n=1)[2][0][0]
    shown = shown / 255 if shown.max() > 1 else shown
    torch.testing.assert_close(torch.Tensor(shown), pixels[0, :, 2:18].permute(2, 0, 1) / 255, rtol=0, atol=1.01 / 255)


@pytest.mark.parametrize('workers', [0, 2])
def test_fastais_own_loaders_get_new_draws_in_each_epoch_and_worker(tmp_path, workers):
    dls = plain_dls(tmp_path, *get_transforms(replace(REFERENCE, flip=0.0), (16, 16)), num_workers=workers, bs=4)
    holes = [tuple(int(o[0]) for o in hole(x)) for _ in range(2) for xs, _ in dls.train for x in torch.Tensor(xs)]
    assert len(holes) == 2 * 24
    assert len({*holes[:24]} ^ {*holes[24:]}) > 10  # of 81 places for a hole; 0 if an epoch repeats the one before
