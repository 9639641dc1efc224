import csv
import shutil
import signal
import sys
from dataclasses import replace

import pytest
import torch
from fastai.callback.core import Callback
from fastai.torch_core import set_seed
from tiny import TINY

from callbacks.checkpoint import load_checkpoint
from callbacks.reduce_lr_on_plateau import plateau_cbs
from runtime.errors import UserError
from runtime.tensor_file import save_tensors
from train_fastai import fit

RECIPE = replace(TINY, dropout=0.5, patience=1)  # dropout draws from torch's random state
EPOCHS = 4  # of 4 batches


class Killed(BaseException):
    """Simulates a kill: nothing catches it."""


class Kill(Callback):
    """Raise in `event` of an epoch and batch."""

    order = 100

    def __init__(self, event, epoch, batch):
        self.at, self.place = event, (epoch, batch)

    def __call__(self, event_name):
        if event_name == self.at and (self.learn.epoch, getattr(self.learn, 'iter', 0)) == self.place:
            raise Killed


def make(learner, seed=0):
    set_seed(seed)
    return learner(RECIPE)


def ending(learn):
    """All results that must be equal: best weights, the last checkpoint, and the history without its seconds."""
    rows = [{**row, 'seconds': None} for row in csv.DictReader((learn.path / 'history.csv').open())]
    best, last = (torch.load(learn.path / f'models/{name}.pth', weights_only=True) for name in ('best', 'last'))
    last['callbacks']['history'] = None  # has the seconds
    return {'history': rows, 'best': best, 'last': last}


def assert_same(a, b):
    """Assert that all tensors and values are bit for bit the same."""
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    for name in a:
        same = torch.equal(a[name], b[name]) if isinstance(a[name], torch.Tensor) else a[name] == b[name]
        assert same, (name, a[name], b[name])


def flat(content, name=''):
    if isinstance(content, dict | list | tuple):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        return {k: v for key, value in items for k, v in flat(value, f'{name}.{key}').items()}
    return {name: content}


@pytest.fixture
def saves_every(monkeypatch):
    """Sets the seconds between checkpoints, and between writes of the best weights, after epochs."""

    def set_seconds(seconds, best=None):
        monkeypatch.setattr('callbacks.checkpoint.SECONDS', seconds)
        monkeypatch.setattr('callbacks.save_model.SECONDS', seconds if best is None else best)

    return set_seconds


@pytest.fixture
def saves_each_epoch(saves_every):
    saves_every(0)


@pytest.fixture
def uninterrupted(learner):
    learn = make(learner)
    fit(learn, EPOCHS, 0.05)
    return ending(learn)


@pytest.mark.parametrize(('event', 'epoch', 'batch'), [
    ('after_batch', 0, 1),  # before the first epoch's checkpoint
    ('before_batch', 1, 2),
    ('after_backward', 2, 3),
    ('before_validate', 1, 3),
    ('after_validate', 2, 1),
    ('after_epoch', 3, 1),  # after the last batch
])  # fmt: skip
@pytest.mark.parametrize(('minutes', 'seconds'), [
    (0, 30),  # a checkpoint after each batch
    (60, 0),  # after each epoch
    (60, 30),  # after the last epoch
])  # fmt: skip
def test_a_killed_training_ends_the_same_after_resume(
    learner, uninterrupted, event, epoch, batch, minutes, seconds, saves_every
):
    saves_every(seconds)
    killed = make(learner)
    killed.add_cb(Kill(event, epoch, batch))
    with pytest.raises(Killed):
        fit(killed, EPOCHS, 0.05, checkpoint_minutes=minutes)
    # the second process has other weights and random states, unless it starts without a checkpoint
    begun = load_checkpoint(killed.path / 'models') is not None
    learn = make(learner, seed=1 if begun else 0)
    learn.path = killed.path
    history = fit(learn, EPOCHS, 0.9 if begun else 0.05, resume=True)
    assert_same(ending(learn), uninterrupted)
    assert list(history.epoch) == list(range(EPOCHS))
    assert torch.equal(learn.model.fc.bias, uninterrupted['best']['fc.bias'])


class Clock(Callback):
    """Let `seconds` pass in each batch, by the clock of both callbacks that write."""

    order = -20

    def __init__(self, monkeypatch, seconds):
        self.now, self.seconds = 0.0, seconds
        for module in 'checkpoint', 'save_model':
            monkeypatch.setattr(f'callbacks.{module}.perf_counter', lambda: self.now)

    def after_batch(self):
        if self.training:
            self.now += self.seconds


@pytest.fixture
def written(monkeypatch):
    """The writes in order: `best`, or a checkpoint's epoch and batch."""
    writes = []

    def wrapped(content, file, keep=None):
        save_tensors(content, file, keep)
        writes.append((content['epoch'], content['batch']) if 'epoch' in content else 'best')

    for module in 'checkpoint', 'save_model':
        monkeypatch.setattr(f'callbacks.{module}.save_tensors', wrapped)
    return writes


@pytest.mark.parametrize(('seconds', 'minutes', 'expected'), [
    (3, 5, ['best', (3, 0), (4, 0)]),  # 12 s an epoch: after epochs 3 (36 s) and 4, the last
    (1, 5, ['best', (4, 0)]),
    (8, 5, ['best', (1, 0), 'best', (2, 0), (3, 0), (4, 0)]),  # 32 s an epoch
    (100, 5, [(0, 3), 'best', (1, 0), (1, 3), 'best', (2, 0), (2, 3), (3, 0), (3, 3), (4, 0)]),
    (8, 0.2, [(0, 2), (0, 4), 'best', (1, 2), (1, 4), 'best', (2, 2), (2, 4), (3, 2), (3, 4), (4, 0)]),  # every 12 s
])  # fmt: skip
def test_writes_are_30_s_apart_and_best_weights_come_before_their_checkpoint(
    learner, uninterrupted, monkeypatch, written, seconds, minutes, expected
):
    learn = make(learner)
    fit(learn, EPOCHS, 0.05, minutes, cbs=[Clock(monkeypatch, seconds)])
    first, second, *others = [float(row['valid_loss']) for row in uninterrupted['history']]
    assert first > second < min(others)  # so the first two epochs have best weights to write
    assert written == expected
    assert_same(ending(learn), uninterrupted)


def test_without_checkpoints_the_best_weights_are_written_every_30_s(learner, monkeypatch, written):
    learn = make(learner)
    with pytest.raises(Killed):
        learn.fit(EPOCHS, 0.05, cbs=[*plateau_cbs(), Clock(monkeypatch, 4), Kill('before_train', 2, 1)])
    assert written == ['best']  # after epoch 2, at 32 s
    best = torch.load(learn.path / 'models/best.pth', weights_only=True)
    assert torch.equal(best['fc.bias'], learn.model.fc.bias)


class FirstEpochOnly(Callback):
    """Save a checkpoint after the first epoch, not after the others."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch

    def before_epoch(self):
        self.monkeypatch.setattr('callbacks.checkpoint.SECONDS', 0 if self.epoch == 0 else 1e9)


@pytest.mark.parametrize('best', [0, 1e9])  # are the best weights on the disk newer than the checkpoint, too?
def test_best_weights_and_history_may_be_newer_than_the_checkpoint(
    learner, uninterrupted, monkeypatch, saves_every, best
):
    saves_every(0, best)
    killed = make(learner)
    with pytest.raises(Killed):
        fit(killed, EPOCHS, 0.05, 60, cbs=[FirstEpochOnly(monkeypatch), Kill('after_pred', 3, 1)])
    assert load_checkpoint(killed.path / 'models')['epoch'] == 1
    assert len((killed.path / 'history.csv').read_text().splitlines()) == 1 + 3
    kept = torch.load(killed.path / 'models/best.pth', weights_only=True)
    assert torch.equal(kept['fc.bias'], uninterrupted['best']['fc.bias']) == (best == 0)
    saves_every(30)
    learn = make(learner, seed=1)
    learn.path = killed.path
    assert list(fit(learn, EPOCHS, 0.9, resume=True).epoch) == list(range(EPOCHS))
    assert_same(ending(learn), uninterrupted)


@pytest.mark.parametrize('epoch', [1, 3])
def test_a_kill_between_the_best_weights_and_their_checkpoint(learner, uninterrupted, monkeypatch, saves_every, epoch):
    def killed_at(content, file, keep=None):
        if content['epoch'] == epoch:
            raise Killed
        save_tensors(content, file, keep)

    saves_every(0)
    killed = make(learner)
    with monkeypatch.context() as patched:
        patched.setattr('callbacks.checkpoint.save_tensors', killed_at)
        with pytest.raises(Killed):
            fit(killed, EPOCHS, 0.05)
    state = load_checkpoint(killed.path / 'models')
    assert (state['epoch'] if state else 0) == epoch - 1
    assert (killed.path / 'models/best.pth').exists()
    learn = make(learner, seed=1 if state else 0)
    learn.path = killed.path
    fit(learn, EPOCHS, 0.9 if state else 0.05, resume=True)
    assert_same(ending(learn), uninterrupted)


def test_a_training_killed_five_times_ends_the_same(learner, uninterrupted):
    learn = make(learner)
    path = learn.path
    for seed, place in enumerate(((0, 2), (0, 3), (1, 0), (2, 1), (3, 3)), 1):
        kill = Kill('after_pred', *place)
        learn.add_cb(kill)
        with pytest.raises(Killed):
            fit(learn, EPOCHS, 0.05, checkpoint_minutes=0, resume=True)
        learn = make(learner, seed=seed)
        learn.path = path
    fit(learn, EPOCHS, 0.05, checkpoint_minutes=0, resume=True)
    assert_same(ending(learn), uninterrupted)


def test_the_interrupted_learner_itself_can_resume(learner, uninterrupted):
    learn = make(learner)
    kill = Kill('after_pred', 1, 2)
    learn.add_cb(kill)
    with pytest.raises(Killed):
        fit(learn, EPOCHS, 0.05, checkpoint_minutes=0)
    learn.remove_cb(kill)
    fit(learn, EPOCHS, 0.05, resume=True)
    assert_same(ending(learn), uninterrupted)


def test_resuming_for_more_epochs_equals_training_them_at_once(learner, uninterrupted):
    learn = make(learner)
    fit(learn, 2, 0.05)
    fit(learn, EPOCHS, 0.05, resume=True)
    assert_same(ending(learn), uninterrupted)


def test_fit_without_resume_starts_anew_and_removes_old_checkpoints(learner):
    learn = make(learner)
    fit(learn, 3, 0.05)
    assert list(fit(learn, 1, 0.05).epoch) == [0]
    assert [file.name for file in sorted((learn.path / 'models').iterdir())] == ['best.pth', 'last.pth']
    assert load_checkpoint(learn.path / 'models')['epoch'] == 1


@pytest.mark.parametrize('damage', ['cut', 'flip', 'gone'])
@pytest.mark.usefixtures('saves_each_epoch')
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_is_used(learner, uninterrupted, damage, capsys):
    killed = make(learner)
    killed.add_cb(Kill('after_pred', 3, 1))
    with pytest.raises(Killed):
        fit(killed, EPOCHS, 0.05)
    last = killed.path / 'models/last.pth'
    content, weights = bytearray(last.read_bytes()), load_checkpoint(last.parent)['model']['fc.weight']
    content[content.index(weights.numpy().tobytes())] ^= 1  # within a tensor: bytes between tensors aren't read
    last.unlink() if damage == 'gone' else last.write_bytes(content[:-1] if damage == 'cut' else content)
    assert load_checkpoint(last.parent)['epoch'] == 2
    assert (f'{last} is damaged' in capsys.readouterr().out) == (damage != 'gone')
    learn = make(learner, seed=1)
    learn.path = killed.path
    fit(learn, EPOCHS, 0.05, resume=True)
    assert_same(ending(learn), uninterrupted)


@pytest.mark.usefixtures('saves_each_epoch')
def test_a_damaged_checkpoint_never_replaces_a_good_one(learner, monkeypatch):
    killed = make(learner)
    killed.add_cb(Kill('after_pred', 3, 1))
    with pytest.raises(Killed):
        fit(killed, EPOCHS, 0.05)
    last = killed.path / 'models/last.pth'
    last.write_bytes(last.read_bytes()[:-9])
    learn = make(learner)
    learn.path = killed.path
    learn.add_cb(Kill('after_pred', 3, 1))
    with pytest.raises(Killed):
        fit(learn, EPOCHS, 0.05, resume=True)
    last.unlink()
    assert load_checkpoint(last.parent)['epoch'] == 2


@pytest.mark.parametrize('content', [
    {'epoch': 1}, [1], {'fc.bias': torch.zeros(3)}, {'epoch': 'x', 'batch': 0, 'meters': [], 'model': {}},
])  # fmt: skip
def test_a_foreign_checkpoint_is_refused_in_one_line(learner, content):
    learn = make(learner)
    torch.save(content, learn.path / 'models/last.pth')
    with pytest.raises(UserError, match=r'^the checkpoint in .*models is not of this training: ') as e:
        fit(learn, EPOCHS, 0.05, resume=True)
    assert '\n' not in str(e.value)


@pytest.mark.parametrize('damage', ['gone', 'cut'])
def test_missing_or_damaged_best_weights_are_refused_before_training(learner, damage):
    learn = make(learner)
    fit(learn, 1, 0.05)
    best = learn.path / 'models/best.pth'
    best.unlink() if damage == 'gone' else best.write_bytes(best.read_bytes()[:-1])
    with pytest.raises(UserError, match=r'best\.pth(, are missing| is damaged).*; restore a copy of it, or train anew'):
        fit(learn, EPOCHS, 0.05, resume=True)
    assert load_checkpoint(best.parent)['epoch'] == 1


def test_resume_writes_the_history_again(learner, uninterrupted):
    learn = make(learner)
    fit(learn, EPOCHS, 0.05)
    (learn.path / 'history.csv').unlink()
    fit(learn, EPOCHS, 0.05, resume=True)
    assert_same(ending(learn), uninterrupted)


@pytest.mark.parametrize('place', [(0, 2), (2, 1)])
def test_bars_continue_after_resume(learner, monkeypatch, place, capsys):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    killed = make(learner)
    killed.add_cb(Kill('after_pred', *place))
    with pytest.raises(Killed):
        fit(killed, EPOCHS, 0.05, checkpoint_minutes=0)
    learn = make(learner)
    learn.path = killed.path
    capsys.readouterr()
    assert list(fit(learn, EPOCHS, 0.05, resume=True).epoch) == list(range(EPOCHS))
    assert '100.00% [4/4' in capsys.readouterr().out


@pytest.mark.usefixtures('saves_each_epoch')
def test_training_starts_anew_if_both_checkpoints_are_damaged(learner, uninterrupted, capsys):
    killed = make(learner)
    killed.add_cb(Kill('after_pred', 3, 1))
    with pytest.raises(Killed):
        fit(killed, EPOCHS, 0.05)
    for name in ('last', 'last.previous'):
        (killed.path / f'models/{name}.pth').write_bytes(b'')
    learn = make(learner)
    learn.path = killed.path
    fit(learn, EPOCHS, 0.05, resume=True)
    assert capsys.readouterr().out.count('is damaged') == 2
    assert_same(ending(learn), uninterrupted)


def test_a_failed_write_leaves_the_previous_checkpoint(learner, uninterrupted, monkeypatch):
    learn = make(learner)
    kept = learn.path / 'kept'
    fit(learn, 2, 0.05)
    shutil.copytree(learn.path / 'models', kept)

    def full(content, file, keep=None):
        raise OSError(28, 'No space left on device', str(file))

    with monkeypatch.context() as patched:
        patched.setattr('callbacks.checkpoint.save_tensors', full)
        with pytest.raises(OSError, match='No space left'):
            fit(learn, EPOCHS, 0.05, checkpoint_minutes=0, resume=True)
    assert_same(load_checkpoint(learn.path / 'models'), load_checkpoint(kept))
    fit(learn, EPOCHS, 0.05, resume=True)
    assert_same(ending(learn), uninterrupted)


def test_an_epochs_seconds_include_those_before_the_interruption(learner):
    learn = make(learner)
    fit(learn, 1, 0.05)
    state = load_checkpoint(learn.path / 'models')
    assert state['callbacks']['history']['rows'][0]['seconds'] > 0
    assert state['callbacks']['history']['seconds'] < 1


class Press(Callback):
    """Press Ctrl-C in `event` of an epoch and batch."""

    def __init__(self, event, epoch, batch):
        self.at, self.where = event, (epoch, batch)

    def __call__(self, event_name):
        if event_name == self.at and (self.learn.epoch, getattr(self.learn, 'iter', 0)) == self.where:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(('event', 'epoch', 'batch', 'place'), [
    ('after_pred', 1, 2, (1, 3)),  # after that batch
    ('after_train', 1, 3, (1, 4)),  # in validation: all batches are trained
    ('after_epoch', 1, 1, (2, 1)),  # a batch later
    ('after_epoch', 3, 1, (4, 0)),  # there is none
])  # fmt: skip
@pytest.mark.usefixtures('handlers')
def test_ctrl_c_saves_a_checkpoint_after_the_batch_and_stops(learner, uninterrupted, event, epoch, batch, place):
    pressed = make(learner)
    pressed.add_cb(Press(event, epoch, batch))
    with pytest.raises(KeyboardInterrupt):
        fit(pressed, EPOCHS, 0.05)
    state = load_checkpoint(pressed.path / 'models')
    assert (state['epoch'], state['batch']) == place
    assert pressed.dls.train.epoch is None
    learn = make(learner, seed=1)
    learn.path = pressed.path
    fit(learn, EPOCHS, 0.05, resume=True)
    assert_same(ending(learn), uninterrupted)


@pytest.mark.parametrize('place', [(0, 3), (1, 1), (2, 5)])
@pytest.mark.parametrize(('minutes', 'seconds'), [(0, 30), (60, 0), (60, 30)])
def test_schedule_lookahead_and_muon_resume_exactly(learner, place, minutes, seconds, saves_every):
    saves_every(seconds)
    parts = {'schedule': 'triangle', 'lookahead': True, 'bias_lr': 64.0, 'muon': 0.5}

    def start(seed):
        set_seed(seed)
        return learner(replace(RECIPE, **parts), valid=0)  # 6 batches an epoch

    whole = start(0)
    fit(whole, 3, 0.01)
    killed = start(0)
    killed.add_cb(Kill('after_batch', *place))
    with pytest.raises(Killed):
        fit(killed, 3, 0.01, checkpoint_minutes=minutes)
    begun = load_checkpoint(killed.path / 'models') is not None
    learn = start(1 if begun else 0)
    learn.path = killed.path
    fit(learn, 3, 0.9 if begun else 0.01, resume=True)
    assert_same(ending(learn), ending(whole))
    assert torch.equal(learn.model.fc.bias, ending(whole)['last']['model']['fc.bias'])  # what was kept is the last


@pytest.mark.parametrize(('event', 'epoch', 'batch'), [
    ('after_batch', 0, 1), ('after_backward', 2, 3), ('before_validate', 1, 3), ('after_pred', 1, 0),
    ('after_validate', 2, 1), ('after_epoch', 1, 1),
])  # fmt: skip
@pytest.mark.parametrize('stop', [Kill, Press])  # Ctrl-C saves within the validation, too
@pytest.mark.usefixtures('handlers')
def test_averaged_weights_resume_exactly(learner, saves_every, event, epoch, batch, stop):
    saves_every(0)

    def start(seed):
        set_seed(seed)
        return learner(replace(RECIPE, average=0.5))

    whole = start(0)
    fit(whole, 3, 0.05)
    stopped = start(0)
    stopped.add_cb(stop(event, epoch, batch))
    with pytest.raises((Killed, KeyboardInterrupt)):
        fit(stopped, 3, 0.05, checkpoint_minutes=0)
    learn = start(1)
    learn.path = stopped.path
    fit(learn, 3, 0.9, resume=True)
    assert_same(ending(learn), ending(whole))
