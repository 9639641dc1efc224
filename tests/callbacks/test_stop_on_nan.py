import torch
from fastai.callback.core import Callback

from callbacks.reduce_lr_on_plateau import plateau_cbs
from callbacks.stop_on_nan import StopOnNaN


class Poison(Callback):
    """Make the weights NaN before the given step of the fit."""

    def __init__(self, step):
        self.step = step

    def before_batch(self):
        if self.training and self.train_iter == self.step:
            self.model.fc.weight.data.fill_(float('nan'))


def test_stops_at_the_batch_and_keeps_the_best_weights(learner, capsys):
    learn = learner()
    learn.fit(5, 0.01, cbs=[Poison(6), StopOnNaN(), *plateau_cbs()])  # 4 batches an epoch: epoch 2, batch 3
    assert capsys.readouterr().out == 'the loss is nan at epoch 2, batch 3, lr 0.01: training stops\n'
    assert all(p.isfinite().all() for p in learn.model.parameters())
    kept = torch.load(learn.path / 'models/best.pth', weights_only=True)
    assert torch.equal(learn.model.fc.weight, kept['fc.weight'])
