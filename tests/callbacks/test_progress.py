import pickle
import re
import sys
from dataclasses import replace

import pytest
from fastai.callback.core import Callback
from fastai.callback.schedule import LRFinder
from tiny import TINY, screen

from callbacks.eta import ETA
from training.lr_finder import find_lr

FIXED = replace(TINY, schedule='triangle')


class Interrupt(Callback):
    """Ctrl-C in the second batch."""

    def before_batch(self):
        if self.iter == 1:
            raise KeyboardInterrupt


@pytest.fixture
def learner(learner, monkeypatch):
    """Makes Learners on a terminal."""

    def make(*args, **kwargs):
        monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
        return learner(*args, **kwargs)

    return make


@pytest.mark.parametrize('columns', [80, 120])
def test_each_line_begins_on_its_own_line_and_epochs_count_from_1(learner, capsys, monkeypatch, columns):
    monkeypatch.setenv('COLUMNS', str(columns))
    learner().fit(2, 0.01, cbs=ETA())
    out = capsys.readouterr().out
    head, about, first, second, *end = screen(out)
    assert head.split() == ['epoch', 'train_loss', 'train_accuracy', 'valid_loss', 'valid_accuracy', 'time']
    assert re.fullmatch(r'about \d+ (s|min) for 2 epochs of 4 batches and the review on this CPU', about)
    assert (first.split()[0], second.split()[0], end) == ('1', '2', [''])
    assert 'Epoch 2/2 : |' in out
    assert max(len(text) for line in out.split('\n') for text in line.split('\r')) <= columns


@pytest.mark.filterwarnings('error')
def test_a_loader_without_images_has_no_bar(learner, capsys):
    learner(FIXED, valid=0).fit(2, 0.01)
    assert 'Epoch 2/2 : |' in capsys.readouterr().out


def test_a_sweep_has_one_bar_with_its_name(learner, capsys):
    learn = learner()
    find_lr(learn)
    out = capsys.readouterr().out
    assert 'Epoch' not in out
    assert re.search(r'learning rate sweep \|.*\| \d+\.\d\d% \[\d+/30 ', out)
    assert screen(out) == ['']
    learn.fit(1, 0.01)
    assert 'Epoch 1/1 : |' in capsys.readouterr().out


def test_a_training_after_an_interrupted_sweep_has_bars(learner, capsys):
    learn = learner()
    with pytest.raises(KeyboardInterrupt):
        learn.fit(1, 0.01, cbs=[LRFinder(num_it=30), Interrupt()])
    capsys.readouterr()
    learn.fit(1, 0.01)
    assert 'Epoch 1/1 : |' in capsys.readouterr().out


def test_predictions_have_a_caption(learner, capsys):
    learn = learner()
    learn.get_preds(ds_idx=2)
    out = capsys.readouterr().out
    assert 'predicting |' in out
    assert screen(out) == ['']


def test_a_learner_can_be_pickled_after_sweep_and_training(learner):
    learn = learner()
    find_lr(learn)
    learn.fit(1, 0.01)
    for cb in learn.progress, learn.sweep_bar:
        cb.learn = None
        pickle.dumps(cb)
