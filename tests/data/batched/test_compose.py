"""Every batch is compared bit for bit with Albumentations, replayed with the batched version's draws."""

import copy
from dataclasses import replace

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare

from config.recipes import PLATEAU, REFERENCE
from data.augment import get_transforms
from data.batched.compose import BatchedCompose, Unbatchable

SIZE = 32, 32
ALL = get_transforms(replace(PLATEAU, hole=0.5), SIZE)[0].transforms
PAD, CROP, FLIP, NORMALIZE, DROPOUT, TO_TENSOR = ALL
ONE_IN_A_MILLION = 1e-6  # chance of a false alarm per comparison of distributions; the draws are seeded


def images(n, size=SIZE):
    return np.random.default_rng(1).integers(0, 256, (n, *size, 3), dtype=np.uint8)


def params(transform, draws):
    """The parameters Albumentations replays for one image's `draws`; None if the transform isn't applied."""
    if isinstance(transform, A.RandomCrop):
        top, left = draws
        return {'crop_coords': (left, top, left + transform.width, top + transform.height), 'pad_params': None}
    if isinstance(transform, A.HorizontalFlip):
        return {} if draws == [1] else None
    if isinstance(transform, A.CoarseDropout):
        holes = [draws[i : i + 4] for i in range(0, len(draws), 4)]
        holes = [(left, top, left + width, top + height) for top, left, height, width in holes if height]
        return {'holes': np.array(holes), 'seed': 0} if holes else None
    return {}


def replayed(transforms, pixels, table):
    """Replay each of `pixels` (N x H x W x 3) with its row of `table`, by A.ReplayCompose.replay."""
    transforms = [t for t in transforms if t.p > 0]
    always = [copy.deepcopy(t) for t in transforms]
    for t in always:
        t.p = 1.0
    saved, out = A.ReplayCompose(always)(image=pixels[0])['replay'], []
    columns = [step.columns for step in BatchedCompose(A.Compose(transforms), pixels.shape[1:3]).steps] + [0]
    for image, row in zip(pixels, table.tolist(), strict=True):
        this, at = copy.deepcopy(saved), 0
        for transform, step, n in zip(transforms, this['transforms'], columns, strict=True):
            drawn = params(transform, row[at : at + n])
            step['applied'], step['params'] = drawn is not None, {**step['params'], **(drawn or {})}
            at += n
        out.append(A.ReplayCompose.replay(this, image=image)['image'])
    return torch.stack(out)


def bits(x):
    """The bits of the numbers, so that 0 and -0 differ."""
    return x.contiguous().numpy().view(np.uint8)


def assert_same(transforms, n, size=SIZE, device='cpu'):
    pixels, batched = images(n, size), BatchedCompose(A.Compose(transforms), size)
    table = batched.draw(np.random.default_rng(2), n)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(device)
    ours, theirs = batched(x, torch.from_numpy(table).to(device)).cpu(), replayed(transforms, pixels, table)
    assert ours.dtype == theirs.dtype
    if device == 'cpu':
        np.testing.assert_array_equal(bits(ours), bits(theirs))
    else:  # to 1 ulp
        np.testing.assert_array_max_ulp(ours.float().numpy(), theirs.float().numpy(), 1)


@pytest.fixture(params=['all', PAD, CROP, FLIP, NORMALIZE, DROPOUT, TO_TENSOR], ids=lambda o: str(o).partition('(')[0])
def some(request):
    """Transforms, and a size of images that they change."""
    if request.param == 'all':
        return ALL, SIZE
    alone = [request.param] if request.param is TO_TENSOR else [request.param, TO_TENSOR]
    return alone, (40, 40) if request.param is CROP else SIZE


def test_1000_images_each_transform_alone_and_all_together(some):
    transforms, size = some
    assert_same(transforms, 1000, size)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_1000_images_on_a_gpu(some):
    transforms, size = some
    assert_same(transforms, 1000, size, device='cuda')


@pytest.mark.parametrize(
    'transforms',
    [
        ALL,
        get_transforms(REFERENCE, SIZE)[0].transforms,
        [A.RandomCrop(20, 24), TO_TENSOR],
        [FLIP, A.PadIfNeeded(64, 70, border_mode=cv2.BORDER_REFLECT), A.RandomCrop(50, 40), FLIP, TO_TENSOR],
        [A.PadIfNeeded(50, 33, border_mode=cv2.BORDER_WRAP, position='top_left'), TO_TENSOR],
        [A.PadIfNeeded(10, 99, border_mode=cv2.BORDER_REPLICATE), NORMALIZE, TO_TENSOR],
        [A.CoarseDropout((1, 4), (3, 9), (1, 40), fill=(1, 2, 3), p=0.6), FLIP, NORMALIZE, TO_TENSOR],
        [NORMALIZE, A.CoarseDropout((2, 2), (0.1, 0.5), (0.2, 0.9), fill=0.3, p=1), FLIP, TO_TENSOR],
        [A.Normalize(0.3, 0.7, max_pixel_value=100.0), A.HorizontalFlip(p=0), TO_TENSOR],
    ],
    ids=range(9),
)
def test_parameters_and_order_come_from_the_compose(transforms):
    assert_same(transforms, 40, (32, 36))


def test_every_byte_is_normalised_as_in_albumentations():
    for recipe in (PLATEAU, REFERENCE):
        compose = get_transforms(recipe, (16, 16))[1]
        pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
        ours = BatchedCompose(compose, (16, 16))(torch.from_numpy(pixels.transpose(2, 0, 1))[None], torch.zeros(1, 0))
        np.testing.assert_array_equal(bits(ours[0]), bits(compose(image=pixels)['image']))


def test_by_hand():
    x = torch.arange(9, dtype=torch.uint8).view(1, 1, 3, 3).expand(1, 3, 3, 3)
    crop = A.Compose([A.PadIfNeeded(5, 5, border_mode=cv2.BORDER_REFLECT_101), A.RandomCrop(3, 3), FLIP, TO_TENSOR])
    # padded: 4 3 4 5 4 / 1 0 1 2 1 / 4 3 4 5 4 / 7 6 7 8 7 / 4 3 4 5 4; the window at row 0, column 2, from the right
    ours = BatchedCompose(crop, (3, 3))(x, torch.tensor([[0, 2, 1]]))
    assert ours[0, 0].tolist() == [[4, 5, 4], [1, 2, 1], [4, 5, 4]]
    hole = A.Compose([A.CoarseDropout((1, 1), (2, 2), (1, 1), fill=9, p=1), TO_TENSOR])
    ours = BatchedCompose(hole, (3, 3))(x, torch.tensor([[1, 0, 2, 1]]))
    assert ours[0, 2].tolist() == [[0, 1, 2], [9, 4, 5], [9, 7, 8]]
    assert x[0, 0, 1, 0] == 3  # the input batch is unchanged


def table(transforms, n=20_000, size=SIZE):
    return BatchedCompose(A.Compose([*transforms, TO_TENSOR]), size).draw(np.random.default_rng(3), n)


def test_draws_are_uniform_and_independent():
    draws = table(ALL[:-1])
    assert draws.shape == (20_000, 7)  # top, left, flip; the hole's top, left, height, width
    for column, ways in ((0, 9), (1, 9), (2, 2), (3, 17), (4, 17)):
        counts = np.bincount(draws[:, column], minlength=ways)
        assert len(counts) == ways
        assert chisquare(counts).pvalue > ONE_IN_A_MILLION
    assert (draws[:, 5:] == 16).all()
    for i in range(5):
        for j in range(i):
            pairs = np.histogram2d(draws[:, i], draws[:, j], [draws[:, i].max() + 1, draws[:, j].max() + 1])[0]
            assert chi2_contingency(pairs).pvalue > ONE_IN_A_MILLION


@pytest.mark.parametrize('p', [0.25, 0.9])
def test_probabilities_come_from_the_compose(p):
    for transform, column in (A.HorizontalFlip(p=p), 0), (A.CoarseDropout((1, 1), (4, 4), (4, 4), p=p), 2):
        applied = (table([transform])[:, column] > 0).sum()
        assert chisquare([applied, 20_000 - applied], [20_000 * p, 20_000 * (1 - p)]).pvalue > ONE_IN_A_MILLION


@pytest.mark.parametrize(
    'dropout',
    [
        A.CoarseDropout((1, 3), (2, 6), (1, 4), p=1),
        A.CoarseDropout((1, 1), (5, 99), (5, 5), p=1),
        A.CoarseDropout((2, 2), (0.1, 0.4), (0.2, 0.8), p=1),
    ],
    ids=range(3),
)
def test_holes_have_the_distribution_of_albumentations(dropout):
    n, size = 5000, (16, 12)
    dropout.set_random_seed(4)
    theirs = [dropout.get_params_dependent_on_data({'shape': size}, {})['holes'] for _ in range(n)]
    ours = table([dropout], n, size).reshape(n, -1, 4)
    number = [[len(o) for o in theirs], (ours[..., 2] > 0).sum(1)]
    left, top, right, bottom = np.concatenate(theirs).T
    mine = ours[ours[..., 2] > 0].T
    both = [number, *zip((top, left, bottom - top, right - left), mine, strict=True)]
    for one, other in both:
        counts = np.stack([np.bincount(o, minlength=17) for o in (one, other)])
        counts = counts[:, counts.any(0)]
        assert counts.shape[1] == 1 or chi2_contingency(counts).pvalue > ONE_IN_A_MILLION


def test_a_row_does_not_depend_on_the_number_of_rows():
    np.testing.assert_array_equal(table(ALL[:-1], 10), table(ALL[:-1], 100)[:10])


@pytest.mark.parametrize(('transforms', 'reason'), [
    ([A.Rotate(), TO_TENSOR], 'Rotate'),
    ([FLIP, A.RandomBrightnessContrast(), NORMALIZE, TO_TENSOR], 'RandomBrightnessContrast'),
    ([A.OneOf([FLIP]), TO_TENSOR], 'OneOf'),
    ([A.PadIfNeeded(40, 40, border_mode=cv2.BORDER_CONSTANT), TO_TENSOR], 'PadIfNeeded with border_mode=0'),
    ([A.RandomCrop(40, 40), TO_TENSOR], 'RandomCrop with a window of 40x40 in 32x32 pixels'),
    ([A.RandomCrop(20, 20, p=0.5), TO_TENSOR], 'RandomCrop with p=0.5'),
    ([A.CoarseDropout(fill='random'), TO_TENSOR], "CoarseDropout with fill='random'"),
    ([A.Normalize(normalization='image'), TO_TENSOR], "Normalize with normalization='image'"),
    ([NORMALIZE, NORMALIZE, TO_TENSOR], 'of float32'),
    ([FLIP], 'does not end with ToTensorV2'),
    ([TO_TENSOR, FLIP, TO_TENSOR], 'ToTensorV2 has'),
])  # fmt: skip
def test_a_transform_without_batched_version_is_named(transforms, reason):
    with pytest.raises(Unbatchable, match=reason) as e:
        BatchedCompose(A.Compose(transforms), SIZE)
    assert str(e.value).endswith('has no batched version')
    assert '\n' not in str(e.value)


def test_sizes_come_from_the_recipe():
    compose = get_transforms(replace(PLATEAU, flip=0.0, hole=0.5), (16, 24))[0]
    draws = BatchedCompose(compose, (16, 24)).draw(np.random.default_rng(0), 500)
    # an eighth of the sides to each side, a hole of half the sides
    assert draws.max(0).tolist() == [4, 6, 8, 12, 8, 12]
    assert draws.min(0).tolist() == [0, 0, 0, 0, 8, 12]
