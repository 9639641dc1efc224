from dataclasses import replace

import pytest
import torch
from fastai.callback.core import Callback
from tiny import TINY, LateReadings

from callbacks.checkpoint import load_checkpoint
from callbacks.reduce_lr_on_plateau import plateau_cbs
from callbacks.stop_on_nan import StopOnNaN
from runtime.errors import UserError
from training.fit import fit


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


@pytest.mark.parametrize('step', [5, 6, 7, 11, 12])  # of 6 batches an epoch
def test_on_a_gpu_no_weights_and_no_checkpoint_with_nan_are_saved(learner, monkeypatch, capsys, step):
    """There the loss is read some batches late."""
    monkeypatch.setattr('callbacks.recorder.Readings', LateReadings)
    learn = learner(replace(TINY, schedule='triangle'), valid=0)  # without validation the last weights are kept
    learn.add_cb(Poison(step))
    if step < 6:
        with pytest.raises(UserError, match='no weights are kept'):
            fit(learn, 3, 0.01, checkpoint_minutes=0)
    else:
        fit(learn, 3, 0.01, checkpoint_minutes=0)
        assert all(p.isfinite().all() for p in learn.model.parameters())
    state = load_checkpoint(learn.path / 'models')
    assert (state['epoch'], state['batch']) == divmod(step, 6)  # the last before the NaN
    assert all(v.isfinite().all() for v in state['model'].values())
    assert 'training stops\n' in capsys.readouterr().out
    assert (learn.path / 'history.csv').exists() == (step >= 6)
