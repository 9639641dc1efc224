"""The table of callbacks by event: the same calls in the same order as by fastai's own Learner."""

import pytest
import torch
from fastai.callback.core import (
    Callback,
    CancelBackwardException,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    CancelStepException,
    CancelTrainException,
    CancelValidException,
    event,
)
from fastai.callback.mixup import MixUp
from fastai.callback.tracker import EarlyStoppingCallback
from fastai.callback.training import GradientAccumulation
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.torch_core import set_seed
from tiny import tiny_dls, tiny_net

from training.events import EventTable

EVENTS = [name for name in vars(event) if not name.startswith('_')]


class Spy(Callback):
    """Record each event that it handles in `log`."""

    def __init__(self, log, name='spy', order=0, **attributes):
        self.log, self.label, self.order = log, name, order
        for attribute, value in attributes.items():
            setattr(self, attribute, value)

    @property
    def name(self):
        return self.label


def _handler(name):
    def handle(self):
        here = vars(self.learn) if self.learn else {}  # fastai calls a callback that an earlier one has just removed
        self.log.append((self.label, name, *(here.get(o) for o in ('training', 'epoch', 'iter'))))

    return handle


for name in EVENTS:
    setattr(Spy, name, _handler(name))


class CalledAtAll(Callback):
    """Overrides `__call__`, so that it's asked at every event."""

    order = 5

    def __init__(self, log):
        self.log = log

    def __call__(self, event_name):
        self.log.append(('all', event_name))


class RemovesItself(Callback):
    order = 6

    def __init__(self, log):
        self.log = log

    def before_batch(self):
        self.log.append(('removes itself', self.epoch, self.iter))
        if self.training and (self.epoch, self.iter) == (1, 1):
            self.learn.remove_cb(self)


class RemovesAnother(Callback):
    """Remove a later callback within an event that it handles, too: it is still called for this event."""

    order = -5

    def after_step(self):
        if (self.epoch, self.iter) == (0, 2) and 'late' in vars(self.learn):
            self.learn.remove_cb(self.learn.late)


class Adds(Callback):
    """Add callbacks within a batch, one of which comes before this one in order."""

    order = 7

    def __init__(self, log):
        self.log = log

    def after_loss(self):
        if self.training and (self.epoch, self.iter) == (0, 1):
            self.learn.add_cbs([Spy(self.log, 'added', -7), Spy(self.log, 'added last', 99)])


class Switches(Callback):
    """Switch itself off in the third batch, for the rest of the fit; after the fit fastai switches it on again."""

    def __init__(self, log):
        self.log = log

    def before_batch(self):
        self.log.append(('switches', self.epoch, self.iter))
        self.run = self.iter < 2

    def after_fit(self):
        self.log.append(('switches', 'after_fit'))


class Cancels(Callback):
    """Raise `error` in `event_name` of the second training or first validation batch."""

    order = 8

    def __init__(self, event_name, error, training=True):
        self.at, self.error, self.where = event_name, error, (training, 1 if training else 0)
        setattr(self, event_name, self.cancel)

    def cancel(self):
        if (self.training, self.iter) == self.where and not hasattr(self.learn, 'gather_preds'):
            raise self.error


def nothing(log):
    return []


def changing(log):
    own = Callback(before_batch=lambda self: log.append(('own method', self.iter)))
    later = Spy(log, 'late', 3)
    return [own, CalledAtAll(log), RemovesItself(log), later, RemovesAnother(), Adds(log), Switches(log)]


CASES = {
    'no other callback': nothing,
    'MixUp': lambda log: [MixUp(0.4)],
    'EarlyStopping': lambda log: [EarlyStoppingCallback(min_delta=10.0, patience=2)],
    'GradientAccumulation': lambda log: [GradientAccumulation(8)],
    'all three': lambda log: [MixUp(), EarlyStoppingCallback(min_delta=10.0), GradientAccumulation(8)],
    'callbacks that come and go': changing,
    'only in training': lambda log: [Spy(log, 'trains', 1, run_valid=False), Spy(log, 'validates', 2, run_train=False)],
    'cancel backward': lambda log: [Cancels('before_backward', CancelBackwardException)],
    'cancel step': lambda log: [Cancels('before_step', CancelStepException)],
    'cancel batch': lambda log: [Cancels('after_pred', CancelBatchException)],
    'cancel train': lambda log: [Cancels('after_batch', CancelTrainException)],
    'cancel valid': lambda log: [Cancels('after_batch', CancelValidException, training=False)],
    'cancel epoch': lambda log: [Cancels('after_loss', CancelEpochException)],
    'cancel fit': lambda log: [Cancels('before_batch', CancelFitException)],
}


def train(cls, folder, log, cbs, fits=2):
    set_seed(0)
    dls = tiny_dls(folder)
    learn = cls(dls, tiny_net(3, 2, 0.5), CrossEntropyLossFlat(), metrics=accuracy, path=folder)
    learn.add_cbs([Spy(log, 'first', -99), Spy(log, 'last', 100), *cbs])
    with learn.no_bar(), learn.no_logging():
        for _ in range(fits):
            learn.fit(3, 0.01)
            learn.validate()
            learn.get_preds(ds_idx=2)
    return learn.model.state_dict(), learn.recorder.values


@pytest.mark.parametrize('case', CASES)
def test_the_calls_and_their_order_are_those_of_fastais_learner(folder, case):
    logs, ends = ([], []), []
    for cls, log in zip((Learner, EventTable), logs, strict=True):
        ends.append(train(cls, folder, log, CASES[case](log)))
    assert logs[0] == logs[1]
    assert len(logs[0]) > 100
    (weights, values), (ours, our_values) = ends
    assert all(torch.equal(weights[name], ours[name]) for name in weights)
    assert str(values) == str(our_values)


def test_callbacks_that_come_and_go_act_as_written(folder):
    log = []
    train(EventTable, folder, log, changing(log), fits=1)
    by = [entry for entry in log if entry[0] == 'removes itself']
    assert by[-1] == ('removes itself', 1, 1)
    assert ('late', 'after_step', None, None, None) in log  # the event within which it is removed
    assert ('late', 'after_batch', True, 0, 2) not in log
    first = next(entry for entry in log if entry[0] == 'added')
    assert first == ('added', 'before_backward', True, 0, 1)
    assert log.count(('switches', 'after_fit')) == 1  # of `validate`, with two batches


@pytest.mark.parametrize('event_name', ['before_batch', 'after_batch', 'before_train'])
@pytest.mark.parametrize('cls', [Learner, EventTable])
def test_an_error_names_the_callback_and_the_event(folder, cls, event_name):
    def fails(self):
        raise ValueError('too late')

    message = f'Exception occured in `Callback` when calling event `{event_name}`:\n\ttoo late'
    with pytest.raises(ValueError, match='too late') as e:
        train(cls, folder, [], [Callback(**{event_name: fails})])
    assert str(e.value) == message


def test_only_callbacks_that_handle_an_event_are_asked(folder, monkeypatch):
    asked, call = [], Callback.__call__

    def counted(self, event_name):
        asked.append((type(self).__name__, event_name))
        return call(self, event_name)

    monkeypatch.setattr(Callback, '__call__', counted)
    train(EventTable, folder, [], [MixUp()], fits=1)
    handled = {entry for entry in asked if entry[1] in ('before_batch', 'after_pred', 'after_backward')}
    assert handled == {
        ('Spy', 'before_batch'), ('CastToTensor', 'before_batch'), ('MixUp', 'before_batch'), ('Spy', 'after_pred'),
        ('GatherPredsCallback', 'before_batch'), ('Spy', 'after_backward'),
    }  # fmt: skip
