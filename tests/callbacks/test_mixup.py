from dataclasses import replace

import pytest
import torch
from fastai.callback.core import Callback
from fastai.torch_core import set_seed
from tiny import TINY

from callbacks.checkpoint import load_checkpoint
from train_fastai import find_lr, fit

RECIPE = replace(TINY, mixup=0.4, label_smoothing=0.1, weight_classes=True, dropout=0.5)


class Watch(Callback):
    """Keep each training batch before and after the mix, the predictions, and the loss."""

    order = 100

    def __init__(self):
        self.seen = []

    def after_loss(self):
        if self.training:
            self.seen[-1] |= {'mixed': self.x.clone(), 'pred': self.pred.detach(), 'loss': self.loss.item()}


class Before(Callback):
    """See a batch before MixUp does."""

    order = -100

    def __init__(self, watch):
        self.watch = watch

    def before_batch(self):
        if self.training:
            self.watch.seen.append({'x': self.x.clone(), 'y': self.y.clone()})


class Kill(Callback):
    """Interrupt the training after its second epoch's second batch."""

    order = 100

    def after_pred(self):
        if self.training and (self.epoch, self.iter) == (1, 2):
            raise KeyboardInterrupt


def smoothed(p, y, weight, smoothing=0.1):
    """The smoothed and weighted cross-entropy of one image with log-probabilities `p` and class `y`."""
    share = [(1 - smoothing) * (c == y) + smoothing / len(p) for c in range(len(p))]
    return -sum(s * w * o for s, w, o in zip(share, weight, p.tolist(), strict=True))


def test_images_and_losses_are_mixed_in_the_same_proportions(learner, folder):
    for i in range(4):  # 4 red of 8 remain: the weights differ
        (folder / f'train/red/0{i}.png').unlink()
    set_seed(0)
    learn = learner(RECIPE)
    counts = learn.dls.class_counts.values()
    weight = [sum(counts) / (3 * n) for n in counts]
    assert len({*weight}) > 1
    watch = Watch()
    learn.add_cbs([watch, Before(watch)])
    learn.fit(1, 0.01)
    for batch in watch.seen:
        x, y, mixed, loss = (batch[name] for name in ('x', 'y', 'mixed', 'loss'))
        log_p, expected = batch['pred'].log_softmax(1), []
        for i, image in enumerate(mixed):
            # the other image and the share: one pair explains all pixels
            errors = {}
            for j, other in enumerate(x):
                direction = x[i] - other
                size = (direction**2).sum()
                share = ((image - other) * direction).sum() / size if size else torch.tensor(1.0)
                errors[j] = ((other + share * direction - image).abs().max().item(), share.item())
            j = min(errors, key=lambda j: errors[j][0])
            error, share = errors[j]
            assert error < 1e-5
            assert 0.5 <= share <= 1 + 1e-6
            own, others = (smoothed(log_p[i], y[k].item(), weight) for k in (i, j))
            expected.append(share * own + (1 - share) * others)
        assert loss == pytest.approx(sum(expected) / len(expected), rel=1e-4)


def test_validation_is_not_mixed_and_the_loss_is_the_learners_own_again(learner):
    learn = learner(RECIPE)
    loss = learn.loss_func
    learn.fit(1, 0.01)
    find_lr(learn)
    assert learn.loss_func is loss
    plain = learner(replace(RECIPE, mixup=0.0))
    plain.model = learn.model
    assert learn.validate() == plain.validate()


@pytest.mark.parametrize('same_learner', [True, False])
def test_a_stopped_training_ends_the_same_after_resume(learner, same_learner):
    set_seed(0)
    whole = learner(RECIPE)
    expected = fit(whole, 3, 0.05)
    set_seed(0)
    learn = learner(RECIPE)
    kill = Kill()
    learn.add_cb(kill)
    with pytest.raises(KeyboardInterrupt):
        fit(learn, 3, 0.05, checkpoint_minutes=0)
    assert load_checkpoint(learn.path / 'models')['batch'] == 2
    if same_learner:
        learn.remove_cb(kill)
    else:
        set_seed(1)
        path, learn = learn.path, learner(RECIPE)
        learn.path = path
    history = fit(learn, 3, 0.9, resume=True)
    assert history.drop(columns='seconds').equals(expected.drop(columns='seconds'))
    states = [load_checkpoint(o.path / 'models')['model'] for o in (learn, whole)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
