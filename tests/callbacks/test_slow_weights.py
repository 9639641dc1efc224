import torch
from fastai.callback.core import Callback

from callbacks.slow_weights import Lookahead


class Scripted(Callback):
    """Set one weight to the batch's number before the end of each batch, and record its value afterwards."""

    order = Lookahead.order - 1

    def before_fit(self):
        self.seen = []
        self.model.fc.bias.data[0] = 0.0

    def after_batch(self):
        if self.training:
            self.model.fc.bias.data[0] = self.epoch * self.n_iter + self.iter + 1.0


class Noted(Callback):
    order = Lookahead.order + 1

    def after_batch(self):
        if self.training:
            self.scripted.seen.append(self.model.fc.bias[0].item())


def test_sets_the_model_to_the_slow_weights_every_five_batches_and_at_the_end(learner):
    learn, scripted = learner(), Scripted()
    learn.fit(3, 0.0, cbs=[scripted, Lookahead(), Noted()])  # 3 epochs of 4 batches
    keep = [0.95**5 * (done / 12) ** 3 for done in (5, 10)]
    first = (1 - keep[0]) * 5  # the slow weights begin at 0
    second = keep[1] * first + (1 - keep[1]) * 10
    expected = torch.tensor([1, 2, 3, 4, first, 6, 7, 8, 9, second, 11, second])  # the last batch's 12 is dropped
    torch.testing.assert_close(torch.tensor(scripted.seen), expected)


def test_includes_float_buffers_but_not_integers(learner):
    learn = learner()
    learn.fit(2, 0.01, cbs=Lookahead())
    norm = learn.model.layer1[1]
    assert norm.num_batches_tracked == 8
    assert norm.running_mean.isfinite().all()
