from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.learner import Learner
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import ttest_1samp
from tiny import tiny_dls
from torch import nn

from interpret.faithfulness import faithfulness
from interpret.gradcam import grad_cam
from interpret.interpretation import GradCAMInterpretation


class Spread(nn.Module):
    """Replace each position by the mean of all, which removes the spatial information."""

    def forward(self, x):
        return x.mean((-2, -1), keepdim=True).expand_as(x).contiguous()


@pytest.fixture
def interp(tmp_path):
    """Grey images with a red or blue 5x5 square at a random place, and a net that counts red and blue."""
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for name, channel in (('blue', 2), ('red', 0)):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(16):
                pixels = rng.integers(100, 110, (16, 16, 1), dtype=np.uint8).repeat(3, 2)
                row, col = rng.integers(0, 12, 2)
                pixels[row : row + 5, col : col + 5] = 60
                pixels[row : row + 5, col : col + 5, channel] = 200
                Image.fromarray(pixels).save(tmp_path / split / name / f'{i:02}.png')
    conv = nn.Conv2d(3, 2, 1)
    conv.weight.data = torch.tensor([[-1.0, 0, 1], [1, 0, -1]])[..., None, None]  # blue minus red, and red minus blue
    conv.bias.data.fill_(-0.5)  # below 0 for grey pixels
    head = nn.Linear(2, 2)
    head.weight.data, head.bias.data = 30 * torch.eye(2), torch.zeros(2)
    seen = nn.Sequential(conv, nn.ReLU())
    model = nn.Sequential(seen, nn.Sequential(Spread()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).train()
    dls = tiny_dls(tmp_path)
    targs = torch.tensor([dls.vocab.o2i[file.parent.name] for file in dls[2].dataset.items])
    return GradCAMInterpretation(Learner(dls, model), dls[2], torch.eye(2)[targs], targs, torch.zeros(32))


def test_a_layer_with_spatial_information_is_faithful_and_one_without_is_not(interp):
    table = faithfulness(interp, ['0', '1'], seconds=60)
    assert list(table.index) == ['0', '1']
    assert table.images.tolist() == [32, 32]
    assert table.faithful.tolist() == [True, False]
    # the square (25 of 256 pixels) is ranked first: from a share of 10% on, it is inserted or deleted
    assert table.score['0'] > 0.3
    assert table.over_random['0'] > 0.2
    # a constant map ranks pixels in reading order, which is no better than chance
    assert abs(table.over_random['1']) < 0.1
    assert table.unlike_random_weights['1'] == 1  # a constant map has rank correlation 0


def test_the_model_and_the_random_state_are_as_before(interp):
    before = {k: v.clone() for k, v in interp.learn.model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    faithfulness(interp, ['0'], seconds=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert interp.learn.model.training
    with pytest.raises(ValueError, match='not in the model'):
        faithfulness(interp, ['nowhere'])
    assert interp.learn.model.training
    assert all(torch.equal(before[k], v) for k, v in interp.learn.model.state_dict().items())


def score(image, map):
    """The score of one image by its definition, with SciPy's blur and the fixture's net by hand."""
    blurred = gaussian_filter(image, 4, radius=7, mode='mirror', axes=(1, 2))
    order, n = np.argsort(-map.ravel(), kind='stable'), map.size
    scores = []
    for k in (25, 76, 128, 179, 230):  # of 256 pixels
        chosen = np.isin(np.arange(n), order[:k]).reshape(map.shape)
        p = []
        for pixels in (np.where(chosen, image, blurred), np.where(chosen, blurred, image)):
            seen = [np.maximum(sign * (pixels[2] - pixels[0]) - 0.5, 0).mean() for sign in (1, -1)]
            p.append(1 / (1 + np.exp(30 * np.diff(seen)[0])))  # probability of blue
        scores.append(p[0] - p[1])
    return np.mean(scores)


def test_values_of_one_image_by_definition(interp):
    i = np.random.default_rng(0).permutation(32)[0]
    x, _, targs, *_ = interp[i]
    model, sign = interp.learn.model, 1 - 2 * targs.item()  # p(red) is 1 - p(blue)
    cam = grad_cam(model, x, targs, ['0'])['0'][0].numpy()
    place = np.linspace(-1, 1, 16)
    image, centre = x[0].numpy().astype(float), np.exp(-np.add.outer(place**2, place**2)).astype(np.float32)
    stranger = deepcopy(model)
    torch.manual_seed(0)
    stranger[0][0].reset_parameters()
    stranger[4].reset_parameters()
    other = grad_cam(stranger, x, targs, ['0'])['0'][0].numpy()

    row = faithfulness(interp, ['0'], n=1).loc['0']
    assert row.score == pytest.approx(sign * score(image, cam), abs=1e-4)
    assert row.over_centre == pytest.approx(sign * (score(image, cam) - score(image, centre)), abs=1e-4)
    ranks = [pd.Series(o.ravel()).rank() for o in (cam, other)]
    assert row.unlike_random_weights == pytest.approx(1 - ranks[0].corr(ranks[1]))
    assert not row.faithful  # one image gives no interval
    assert np.isinf([row.score_ci, row.over_random_ci, row.over_centre_ci, row.unlike_random_weights_ci]).all()


def test_same_seed_gives_the_same_table_and_no_time_gives_one_batch(interp):
    one, two = (faithfulness(interp, ['0'], seconds=0) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert one.images.tolist() == [8]


def test_intervals_use_students_t(interp):
    tables = [faithfulness(interp, ['0'], n=n).loc['0'] for n in range(1, 7)]
    sums = np.array([0, *(n * table.over_random for n, table in enumerate(tables, 1))])
    expected = ttest_1samp(np.diff(sums), 0).confidence_interval(0.95)
    row = tables[-1]
    assert row.over_random - row.over_random_ci == pytest.approx(expected.low, abs=1e-6)
    assert row.over_random + row.over_random_ci == pytest.approx(expected.high, abs=1e-6)


def test_works_on_the_interpretation_of_a_learner(learner):
    table = faithfulness(GradCAMInterpretation.from_learner(learner()), seconds=0)
    assert list(table.index) == ['layer1', 'layer2', 'layer3', 'layer4']
    assert np.isfinite(table.drop(columns='faithful').to_numpy(float)).all()
