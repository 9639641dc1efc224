from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from tiny import TINY

from runtime.errors import UserError
from train_fastai import get_learner
from training.loss import CrossEntropy, class_weights


def test_weights_are_scikit_learns():
    counts = {'ant': 5, 'bee': 20, 'cat': 2}
    labels = [name for name, n in counts.items() for _ in range(n)]
    expected = compute_class_weight('balanced', classes=np.array([*counts]), y=labels)
    assert class_weights(counts).tolist() == pytest.approx(expected)
    mean = sum(w * n for w, n in zip(expected, counts.values(), strict=True)) / 27
    assert mean == pytest.approx(1)


def test_a_weighted_loss_is_a_mean_over_images():
    pred, targ, weight = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([0.5, 2.0, 1.0])
    own = [-weight[y].item() * pred[i].log_softmax(0)[y].item() for i, y in enumerate(targ)]
    loss = CrossEntropy(weight=weight)
    assert loss(pred, targ).item() == pytest.approx(sum(own) / 6)
    halves = [loss(pred[part], targ[part]).item() for part in (slice(3), slice(3, 6))]
    assert sum(halves) / 2 == pytest.approx(sum(own) / 6)
    loss.reduction = 'none'
    assert loss(pred, targ).tolist() == pytest.approx(own)


def test_a_learners_loss_has_the_weights_of_its_training_images(learner, folder):
    for i in range(4):
        (folder / f'train/red/0{i}.png').unlink()  # 8 blue, 8 green and 4 red, a quarter of which validates: 6, 6, 3
    assert learner(TINY).loss_func.func.weight is None
    learn = learner(replace(TINY, weight_classes=True))
    assert learn.dls.class_counts == {'blue': 6, 'green': 6, 'red': 3}
    assert learn.loss_func.func.weight.tolist() == pytest.approx([15 / 18, 15 / 18, 15 / 9])
    learn.fit(1, 0.01)
    loss, _ = learn.validate()
    preds, targs = learn.get_preds()
    own = [-learn.loss_func.func.weight[y] * p[y].log() for p, y in zip(preds, targs, strict=True)]
    smoothed = [-learn.loss_func.func.weight @ p.log() / 3 for p in preds]
    assert loss == pytest.approx((0.9 * sum(own) / 5 + 0.1 * sum(smoothed) / 5).item(), rel=1e-4)


def test_weights_need_counted_images(learner, folder):
    learn = learner(TINY)
    del learn.dls.class_counts
    with pytest.raises(UserError, match=r'^weight_classes needs the DataLoaders of get_dls'):
        get_learner(learn.dls, replace(TINY, weight_classes=True), learn.path)
