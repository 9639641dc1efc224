import pytest
import torch
from fastai.callback.core import Callback

from callbacks.averaged_weights import AveragedWeights
from callbacks.save_model import SaveLast


class Scripted(Callback):
    """Set one weight to the batch's number, as an optimiser would, and record it at each event."""

    order = AveragedWeights.order - 10

    def before_fit(self):
        self.seen, self.bias = [], self.model.fc.bias
        self.bias.data[0] = 0.0

    def after_batch(self):
        if self.training:
            self.bias.data[0] = self.epoch * self.n_iter + self.iter + 1.0
        elif self.iter == 0:
            self.seen.append(self.bias[0].item())

    def before_train(self):
        self.seen.append(self.bias[0].item())


def average(epochs, batches, n_iter):
    """The moving average of 1, 2, ..., `batches`, which begins at 0."""
    value, keep = 0.0, 1 - 1 / (epochs * n_iter)
    for number in range(1, batches + 1):
        value = keep * value + (1 - keep) * number
    return value


def test_validates_and_saves_the_average_and_trains_on_with_the_weights_themselves(learner):
    learn, scripted = learner(), Scripted()
    learn.fit(2, 0.0, cbs=[scripted, AveragedWeights(0.5), SaveLast(fname='kept')])  # 2 epochs of 4 batches
    expected = [0, average(0.5, 4, 4), 4, average(0.5, 8, 4)]
    torch.testing.assert_close(torch.tensor(scripted.seen), torch.tensor(expected))
    kept = torch.load(learn.path / 'models/kept.pth', weights_only=True)
    assert kept['fc.bias'][0].item() == pytest.approx(average(0.5, 8, 4))
    assert torch.equal(learn.model.fc.bias, kept['fc.bias'])  # SaveLast loads what it saved


def test_averages_batchnorms_statistics_but_not_its_count(learner):
    learn = learner()
    learn.fit(2, 0.01, cbs=[AveragedWeights(1.0), SaveLast(fname='kept')])
    kept, own = torch.load(learn.path / 'models/kept.pth', weights_only=True), learn.model.state_dict()
    assert kept['layer1.1.num_batches_tracked'] == own['layer1.1.num_batches_tracked'] == 8
    assert kept['layer1.1.running_mean'].abs().sum() > 0
