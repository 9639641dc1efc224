import sys

from bars import progress
from train_fastai import fit


def last_drawn(capsys) -> tuple[str, str]:
    """The last bar, and what stands on the line afterwards."""
    drawn = capsys.readouterr().out.split('\r')
    line = ''
    for text in drawn:
        line = text + line[len(text) :]
    return [text for text in drawn if '|' in text][-1], line.strip()


def test_a_log_file_gets_nothing(capsys):
    assert list(progress(range(5))) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().out == ''


def test_a_terminal_gets_a_bar_that_goes_when_the_loop_ends(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    assert list(progress(range(5))) == [0, 1, 2, 3, 4]
    bar, left = last_drawn(capsys)
    assert '[5/5' in bar
    assert left == ''


def test_a_loop_left_early_leaves_no_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    for i in progress(range(5)):
        if i == 2:
            break
    bar, left = last_drawn(capsys)
    assert '[2/5' in bar
    assert left == ''


def test_nothing_to_do(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    assert list(progress([])) == []
    assert capsys.readouterr().out == ''


def test_a_training_on_a_terminal_has_bars_and_no_colours(learner, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    fit(learner(), 2, 0.01)
    out = capsys.readouterr().out
    assert 'Epoch 2/2 : |' in out
    assert 'about ' in out
    assert '\x1b' not in out  # so NO_COLOR has nothing to switch off
