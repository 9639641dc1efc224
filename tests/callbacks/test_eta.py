from dataclasses import replace

import pytest
from fastai.callback.core import Callback
from tiny import TINY

from callbacks import eta
from callbacks.eta import ETA
from config.recipes import FINETUNE, HOUR, PLATEAU, SPEEDRUN
from training.lr_finder import find_lr


class Clock(Callback):
    """A clock by which each training batch takes `seconds`, and the very first one `lazy` seconds more."""

    order = ETA.order - 1

    def __init__(self, seconds, lazy=0.0):
        self.now, self.seconds, self.lazy = 0.0, seconds, lazy

    def after_batch(self):
        if self.training:
            self.now += self.seconds + self.lazy * (self.train_iter == 1)


class Note(Callback):
    """Record the output after each training batch."""

    order = ETA.order + 1

    def __init__(self, capsys):
        self.capsys, self.out = capsys, {}

    def after_batch(self):
        if self.training and (out := self.capsys.readouterr().out):
            self.out[self.epoch, self.iter] = out


def printed(learn, monkeypatch, capsys, seconds, epochs, lazy=0.0):
    """The epoch and batch at which ETA prints, and its output."""
    clock, note = Clock(seconds, lazy), Note(capsys)
    monkeypatch.setattr(eta, 'perf_counter', lambda: clock.now)
    learn.fit(epochs, 0.01, cbs=[clock, ETA(), note])
    ((place, out),) = note.out.items()
    return place, out


def test_extrapolates_the_first_batches_without_the_very_first(learner, monkeypatch, capsys):
    # an epoch costs 4 training batches and 2 validation batches at 1/3 each: 4 2/3; the 3 test batches add 1
    # the review measures maps for 30 s, its minimum, and plots for 10 s
    place, out = printed(learner(), monkeypatch, capsys, 30.0, epochs=2, lazy=1000)
    assert place == (0, 3)
    about = 'about 6 min for 2 epochs of 4 batches and the review on this CPU'  # 2 * 140 s + 30 s + 40 s = 350 s
    assert out == f'{about}\n'


@pytest.mark.parametrize(('bs', 'batches', 'lazy'), [(18, 1, 0), (9, 2, 1000), (6, 3, 1000)])
def test_a_first_epoch_of_few_batches_is_enough(learner, monkeypatch, capsys, bs, batches, lazy):
    # 18 training images; a validation or test batch takes a third of a minute
    learn = learner(replace(TINY, bs=bs), bs=bs, valid=0.25)
    train, valid, test = (len(dl) for dl in learn.dls.loaders)
    assert train == batches
    place, out = printed(learn, monkeypatch, capsys, 60.0, epochs=5, lazy=lazy)
    assert place == (0, batches - 1)
    trained = 5 * train + 5 * valid / 3
    total = trained + test / 3 + max(30 / 60, trained / 10) + 10 / 60
    assert out.startswith(f'about {round(total)} min for 5 epochs')


def test_a_resumed_epoch_counts_only_its_remaining_batches(learner, monkeypatch, capsys):
    learn = learner()
    learn.dls.train.skip = 2  # of 4 batches
    place, out = printed(learn, monkeypatch, capsys, 60.0, epochs=1, lazy=1000)
    assert place == (0, 3)
    assert out.startswith('about 4 min for 1 epoch of 4 batches')  # 2 + 2/3 + 3/3 minutes and 40 s, 4.33


def test_over_an_hour_on_a_cpu_suggests_faster_options(learner, monkeypatch, capsys):
    _, out = printed(learner(), monkeypatch, capsys, 1000.0, epochs=2)
    # 9,333 s, a tenth of it for the maps, 1,000 s for the test and 10 s for plots: 11,277 s
    assert out.startswith('about 3 h 08 min for 2 epochs')
    assert '--data digits, or --fraction 0.1 --epochs 5' in out


def test_the_epochs_that_train_all_layers_take_three_times_as_long_as_the_frozen_ones(learner, monkeypatch, capsys):
    learn = learner(replace(TINY, schedule='finetune', frozen=2))
    learn.freeze()
    _, out = printed(learn, monkeypatch, capsys, 60.0, epochs=5)
    train, valid, test = (len(dl) for dl in learn.dls.loaders)
    assert (train, valid, test) == (4, 2, 3)
    trained = 60 * (4 * (2 + 3 * 3) + 5 * 2)
    assert trained + 60 * 3 + trained / 10 + 10 == 3754
    assert out.startswith('about 1 h 03 min for 5 epochs')


@pytest.mark.parametrize(('recipe', 'named'), [(PLATEAU, True), (HOUR, True), (SPEEDRUN, False), (FINETUNE, False)])
def test_the_running_recipe_is_not_suggested(learner, monkeypatch, capsys, recipe, named):
    learn = learner()
    learn.recipe = recipe
    _, out = printed(learn, monkeypatch, capsys, 1000.0, epochs=2)
    assert ('--recipe speedrun' in out) == named
    assert out.endswith('; Colab has free GPUs\n')


def test_a_sweep_counts_itself_all_epochs_and_the_views_of_the_test(learner, monkeypatch, capsys):
    learn = learner(replace(TINY, epochs=7, sweep_steps=30, test_views=True))
    clock = Clock(3.0, lazy=1000)
    monkeypatch.setattr(eta, 'perf_counter', lambda: clock.now)
    with learn.added_cbs([clock, ETA()]):
        find_lr(learn)
    # 30 steps, 7 epochs of 4 + 2/3 batches, 6 views of 3/3 batches, all of 3 s, and the maps and plots of the review
    assert 90 + 98 + 18 + 30 + 10 == 246
    assert capsys.readouterr().out == 'about 4 min for a sweep, 7 epochs of 4 batches and the review on this CPU\n'


def test_maps_of_a_fast_network_take_less_than_their_limit(learner, monkeypatch, capsys):
    # 4 2/3 batches of 0.03 s; 75 passes for 100 images in batches of 4, 0.01 s each: 18.75 s; test: 0.03 s; plots: 10 s
    _, out = printed(learner(), monkeypatch, capsys, 0.03, epochs=1)
    assert out.startswith('about 29 s for 1 epoch')


@pytest.mark.parametrize(('seconds', 'words'), [(0.2, '1 s'), (29, '29 s'), (31, '1 min'), (3599, '1 h 00 min')])
def test_duration_in_words(seconds, words):
    assert eta.in_words(seconds) == words
