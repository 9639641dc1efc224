from dataclasses import replace

import pytest
import torch
from fastai.callback.core import Callback, CancelTrainException
from fastai.learner import AvgMetric, Recorder
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.torch_core import set_seed
from tiny import TINY, LateReadings

from callbacks import recorder
from training.lr_finder import find_lr

RECIPE = replace(TINY, dropout=0.5, label_smoothing=0.1)


class Note(Callback):
    """Record the smoothed loss that others read, and the newest one, after each training batch."""

    order = Recorder.order + 1

    def __init__(self):
        self.read, self.newest = [], []

    def after_batch(self):
        if self.training:
            self.read.append(float(self.learn.smooth_loss))
            self.newest.append(float(self.recorder.newest))


def make(learner):
    set_seed(0)
    return learner(RECIPE)


def test_numbers_are_those_of_fastais_recorder_bit_for_bit(learner):
    ours, theirs = make(learner), make(learner)
    theirs.remove_cb(recorder.Recorder)
    theirs.add_cb(Recorder(train_metrics=True))
    theirs.metrics, theirs.loss_func = accuracy, CrossEntropyLossFlat(label_smoothing=0.1)
    assert type(theirs.metrics[0]) is AvgMetric
    for learn in ours, theirs:
        set_seed(1)
        learn.fit(3, 0.05)
    assert ours.recorder.metric_names == theirs.recorder.metric_names
    assert [*map(list, ours.recorder.values)] == [*map(list, theirs.recorder.values)]
    assert [*map(float, ours.recorder.losses)] == [*map(float, theirs.recorder.losses)]
    assert (ours.recorder.lrs, ours.recorder.iters) == (theirs.recorder.lrs, theirs.recorder.iters)
    assert ours.validate() == theirs.validate()
    assert all(torch.equal(*pair) for pair in zip(ours.model.parameters(), theirs.model.parameters(), strict=True))


def test_accuracy_is_fastais():
    pred, targ = torch.randn(7, 3), torch.randint(3, (7,))
    assert torch.equal(recorder.accuracy(pred, targ), torch.Tensor(accuracy(pred, targ)))


@pytest.fixture
def late(monkeypatch):
    monkeypatch.setattr(recorder, 'Readings', LateReadings)


@pytest.mark.usefixtures('late')
def test_on_a_gpu_losses_are_late_until_an_epochs_training_ends(learner):
    learn, note = make(learner), Note()
    learn.fit(2, 0.05, cbs=note)  # epochs of 4 batches
    one, two, three, four, five, six, seven, _ = note.newest
    # the first of a fit is waited for, then all but the last three are known, and all at the end of the epoch
    assert note.read == [one, one, one, one, four, four, four, five]
    assert len({one, two, three, four, five, six, seven}) == 7
    assert [*map(float, learn.recorder.losses)] == note.newest


@pytest.mark.usefixtures('late')
def test_the_end_of_a_cancelled_epoch_has_all_losses(learner):
    class Cancel(Callback):
        order = Recorder.order + 2

        def after_batch(self):
            if self.iter == 2:
                raise CancelTrainException

    learn, note = make(learner), Note()
    learn.fit(1, 0.05, cbs=[note, Cancel()])
    assert [*map(float, learn.recorder.losses)] == note.newest
    assert len(note.newest) == 3


def test_a_sweep_reads_each_loss_at_once(learner, monkeypatch):
    sweeps = []
    for readings in recorder.Readings, LateReadings:
        monkeypatch.setattr(recorder, 'Readings', readings)
        sweeps.append(find_lr(make(learner)))
    assert sweeps[0].losses == sweeps[1].losses
    assert sweeps[0].lr == sweeps[1].lr


def test_a_loss_of_an_earlier_fit_is_not_read_again(learner, late):
    learn, note = make(learner), Note()
    learn.smooth_loss = torch.tensor(float('nan'))
    learn.fit(1, 0.05, cbs=note)
    assert note.read[0] == note.newest[0] > 0
