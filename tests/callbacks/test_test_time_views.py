from dataclasses import replace

import pytest
import torch
from fastai.callback.fp16 import AMPMode, MixedPrecision
from tiny import TINY
from torch import Tensor

from callbacks.test_time_views import MeanOverViews
from train_fastai import fit


def six_views(x):
    """The six views worked out by hand, each with its weight."""
    n = x.shape[-1]
    before = [1, *range(n - 1)]  # moved down and right by one pixel, with reflect padding
    after = [*range(1, n), n - 2]
    shifted = [x[:, :, before][..., before], x[:, :, after][..., after]]
    return [(0.25, x), (0.25, x.flip(3))] + [(0.125, v) for s in shifted for v in (s, s.flip(3))]


@pytest.mark.parametrize(('flip', 'shift', 'weights'), [
    (False, False, {0: 1.0}),
    (True, False, {0: 0.5, 1: 0.5}),
    (False, True, {0: 0.5, 2: 0.25, 4: 0.25}),
    (True, True, {0: 0.25, 1: 0.25, 2: 0.125, 3: 0.125, 4: 0.125, 5: 0.125}),
])  # fmt: skip
def test_predictions_are_means_over_the_views(learner, flip, shift, weights):
    learn = learner()
    x = torch.cat([x.as_subclass(Tensor) for x, _ in learn.dls[2]])
    with torch.no_grad():
        learn.model.eval()
        views = [learn.model(v) for _, v in six_views(x)]
    learn.add_cb(MeanOverViews(flip, shift))
    logits = learn.get_preds(dl=learn.dls[2], act=lambda o: o)[0]
    torch.testing.assert_close(logits, sum(w * views[i] for i, w in weights.items()))


class OnCPU(MixedPrecision):
    def before_fit(self):
        super().before_fit()
        self.autocast = torch.autocast('cpu', torch.bfloat16)


@pytest.mark.parametrize('shift', [False, True])
def test_the_mean_of_half_precision_views_is_in_float32(learner, shift):
    learn = learner()
    x = torch.cat([x.as_subclass(Tensor) for x, _ in learn.dls[2]])
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        learn.model.eval()
        views = [(w if shift else 0.5, learn.model(v)) for w, v in six_views(x)[: 6 if shift else 2]]
    assert {v.dtype for _, v in views} == {torch.bfloat16}
    learn.add_cbs([MeanOverViews(True, shift), OnCPU(AMPMode.BF16)])
    logits = learn.get_preds(dl=learn.dls[2], act=lambda o: o)[0]
    torch.testing.assert_close(logits, sum(w * v.float() for w, v in views), rtol=0, atol=1e-6)


def test_training_uses_no_views(learner):
    learn, runs = learner(), []
    learn.add_cb(MeanOverViews(True, True))
    learn.model.register_forward_hook(lambda module, args, out: runs.append(module.training))
    learn.fit(1, 0.01)
    assert runs.count(True) == 4  # batches
    assert runs.count(False) == 6 * len(learn.dls.valid)


def test_our_fit_validates_with_one_view_and_predicts_with_six_afterwards(learner):
    learn, runs = learner(replace(TINY, test_views=True)), []
    learn.model.register_forward_hook(lambda module, args, out: runs.append(module.training))
    fit(learn, 1, 0.01)
    assert runs.count(False) == len(learn.dls.valid)
    learn.get_preds(dl=learn.dls[2])
    assert runs.count(False) == len(learn.dls.valid) + 6 * len(learn.dls[2])
