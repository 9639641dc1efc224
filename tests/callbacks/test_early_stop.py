from dataclasses import replace

import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.tracker import TrackerCallback
from fastai.torch_core import set_seed
from tiny import TINY, tiny_dls

from callbacks.checkpoint import load_checkpoint
from runtime.errors import UserError
from train_fastai import fit

RECIPE = replace(TINY, early_stop=2, dropout=0.5)


class Script(Callback):
    """Replace each epoch's validation loss with the next of `values`; stop in epoch `killed`, like a Ctrl-C."""

    order = TrackerCallback.order - 1

    def __init__(self, values, killed=None):
        self.values, self.killed = values, killed

    def before_train(self):
        if self.epoch == self.killed:
            raise KeyboardInterrupt

    def after_epoch(self):
        self.recorder.values[-1][self.recorder.metric_names.index('valid_loss') - 1] = self.values[self.epoch]


def trained(learner, values, path=None, killed=None, seed=0):
    set_seed(seed)
    learn = learner(RECIPE)
    learn.path = path or learn.path
    return learn, fit(learn, 9, 0.05, resume=path is not None, cbs=[Script(values, killed)])


def weights(learn, name):
    return torch.load(learn.path / f'models/{name}.pth', weights_only=True)


def test_training_ends_after_epochs_without_improvement(learner, capsys):
    # the second epoch is the best; the third and the fourth are no better
    learn, history = trained(learner, [3.0, 1.0, 2.0, 1.0, 0.5])
    assert list(history.epoch) == [0, 1, 2, 3]
    assert 'epoch 4: valid_loss has not improved for 2 epochs, training stops\n' in capsys.readouterr().out
    assert load_checkpoint(learn.path / 'models')['epoch'] == 4
    assert torch.equal(learn.model.fc.bias, weights(learn, 'best')['fc.bias'])


def test_an_improvement_starts_the_count_again(learner, capsys):
    _, history = trained(learner, [3.0, 3.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.4])
    assert len(history) == 9
    assert 'training stops' not in capsys.readouterr().out


@pytest.mark.parametrize('killed', [1, 2, 3])
def test_a_stopped_training_ends_the_same_after_resume(learner, monkeypatch, killed):
    monkeypatch.setattr('callbacks.checkpoint.SECONDS', 0)  # a checkpoint after each epoch
    values = [3.0, 1.0, 2.0, 2.0, 0.5]
    whole, history = trained(learner, values)
    with pytest.raises(KeyboardInterrupt):
        trained(learner, values, killed=killed)
    path = whole.path.with_name('run1')
    assert load_checkpoint(path / 'models')['epoch'] == killed
    learn, resumed = trained(learner, values, path, seed=1)
    assert resumed.drop(columns='seconds').equals(history.drop(columns='seconds'))
    for name in 'best', 'last':
        mine, theirs = (weights(o, name) for o in (learn, whole))
        mine, theirs = (o.get('model', o) for o in (mine, theirs))
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_resumed_after_its_stop_it_has_nothing_left_to_train(learner, capsys):
    values = [1.0, 2.0, 2.0, 0.5, 0.4]
    learn, history = trained(learner, values)
    capsys.readouterr()
    _, again = trained(learner, values, learn.path)
    assert again.equals(history)
    assert 'has all epochs (3): nothing is left to train' in capsys.readouterr().out


def test_it_needs_validation_images(folder):
    with pytest.raises(UserError, match=r'^valid 0: --early-stop goes by the validation loss'):
        tiny_dls(folder, replace(RECIPE, schedule='triangle'), valid=0)
