import re

import pytest

from callbacks import eta
from callbacks.eta import ETA


def said(learn, monkeypatch, capsys, seconds_a_batch, epochs):
    clock = iter(i * seconds_a_batch * ETA.timed for i in range(2))
    monkeypatch.setattr(eta, 'perf_counter', lambda: next(clock))
    learn.fit(epochs, 0.01, cbs=ETA())
    return capsys.readouterr().out


def test_extrapolates_the_first_batches(learner, monkeypatch, capsys):
    # 4 training batches, and 2 validation batches at a third, make 4 2/3 an epoch; the test set's 3 make 1 more
    out = said(learner(), monkeypatch, capsys, 30.0, epochs=2)
    assert re.fullmatch(r'about 5 min for 2 epochs of 4 batches on this CPU\n', out)  # 2 * 140 s + 30 s = 310 s


def test_over_an_hour_on_a_cpu_names_the_ways_out(learner, monkeypatch, capsys):
    out = said(learner(), monkeypatch, capsys, 1000.0, epochs=2)  # 10,333 s
    assert out.startswith('about 2 h 52 min for 2 epochs')
    assert '--data digits, or --fraction 0.1 --epochs 5' in out


@pytest.mark.parametrize(('seconds', 'words'), [(0.2, '1 s'), (29, '29 s'), (31, '1 min'), (3599, '1 h 00 min')])
def test_words(seconds, words):
    assert eta.in_words(seconds) == words
