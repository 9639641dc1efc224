import re
from dataclasses import replace

import pytest
from fastai.callback.core import Callback
from tiny import TINY

from callbacks import eta
from callbacks.eta import ETA
from recipes import HOUR, PLATEAU, SPEEDRUN


class Clock(Callback):
    """Each training batch takes `seconds`, and the first one of all `lazy` more."""

    order = ETA.order - 1

    def __init__(self, seconds, lazy=0.0):
        self.now, self.seconds, self.lazy = 0.0, seconds, lazy

    def after_batch(self):
        if self.training:
            self.now += self.seconds + self.lazy * (self.train_iter == 1)


class Note(Callback):
    """Note after which batches something had been printed."""

    order = ETA.order + 1

    def __init__(self, capsys):
        self.capsys, self.said = capsys, {}

    def after_batch(self):
        if self.training and (out := self.capsys.readouterr().out):
            self.said[self.epoch, self.iter] = out


def said(learn, monkeypatch, capsys, seconds, epochs, lazy=0.0):
    """What ETA prints, and after which epoch and batch."""
    clock, note = Clock(seconds, lazy), Note(capsys)
    monkeypatch.setattr(eta, 'perf_counter', lambda: clock.now)
    learn.fit(epochs, 0.01, cbs=[clock, ETA(), note])
    ((place, out),) = note.said.items()
    return place, out


def test_extrapolates_the_first_batches_without_the_very_first(learner, monkeypatch, capsys):
    # 4 training batches, and 2 validation batches at a third, make 4 2/3 an epoch; the test set's 3 make 1 more
    place, out = said(learner(), monkeypatch, capsys, 30.0, epochs=2, lazy=1000)
    assert place == (0, 3)
    assert re.fullmatch(r'about 5 min for 2 epochs of 4 batches on this CPU\n', out)  # 2 * 140 s + 30 s = 310 s


@pytest.mark.parametrize(('bs', 'batches', 'lazy'), [(18, 1, 0), (9, 2, 1000), (6, 3, 1000)])
def test_says_it_in_the_first_epoch_of_few_batches(learner, monkeypatch, capsys, bs, batches, lazy):
    # of 18 training images; a batch of the validation or the test set takes a third of a minute
    learn = learner(replace(TINY, bs=bs), bs=bs, valid=0.25)
    train, valid, test = (len(dl) for dl in learn.dls.loaders)
    assert train == batches
    place, out = said(learn, monkeypatch, capsys, 60.0, epochs=5, lazy=lazy)
    assert place == (0, batches - 1)
    assert out.startswith(f'about {round(5 * train + (5 * valid + test) / 3)} min for 5 epochs')


def test_counts_from_where_the_epoch_goes_on(learner, monkeypatch, capsys):
    learn = learner()
    learn.dls.train.skip = 2  # of 4 batches
    place, out = said(learn, monkeypatch, capsys, 60.0, epochs=1, lazy=1000)
    assert place == (0, 3)
    assert out.startswith('about 4 min for 1 epoch of 4 batches')  # 2 + 2/3 + 3/3 minutes, 3.67


def test_over_an_hour_on_a_cpu_names_the_ways_out(learner, monkeypatch, capsys):
    _, out = said(learner(), monkeypatch, capsys, 1000.0, epochs=2)  # 10,333 s
    assert out.startswith('about 2 h 52 min for 2 epochs')
    assert '--data digits, or --fraction 0.1 --epochs 5' in out


@pytest.mark.parametrize(('recipe', 'named'), [(PLATEAU, True), (HOUR, True), (SPEEDRUN, False)])
def test_nobody_is_sent_to_the_recipe_that_is_running(learner, monkeypatch, capsys, recipe, named):
    learn = learner()
    learn.recipe = recipe
    _, out = said(learn, monkeypatch, capsys, 1000.0, epochs=2)
    assert ('--recipe speedrun' in out) == named
    assert out.endswith('; Colab has free GPUs\n')


@pytest.mark.parametrize(('seconds', 'words'), [(0.2, '1 s'), (29, '29 s'), (31, '1 min'), (3599, '1 h 00 min')])
def test_words(seconds, words):
    assert eta.in_words(seconds) == words
