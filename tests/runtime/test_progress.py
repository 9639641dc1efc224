import sys

from fastprogress.fastprogress import NBProgressBar
from tiny import screen

from runtime import progress as progress_module
from runtime.progress import progress
from train_fastai import fit


def last_drawn(capsys) -> tuple[str, str]:
    """The last bar, and the text left on its line afterwards."""
    out = capsys.readouterr().out
    return [text for text in out.split('\r') if '|' in text][-1], screen(out)[-1]


def test_a_log_file_gets_nothing(capsys):
    assert list(progress(range(5), 'counting')) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().out == ''


def test_a_terminal_gets_a_bar_that_is_erased_when_the_loop_ends(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    assert list(progress(range(5), 'counting')) == [0, 1, 2, 3, 4]
    bar, left = last_drawn(capsys)
    assert bar.startswith('counting |')
    assert '[5/5' in bar
    assert left == ''


def test_the_caption_is_shown_from_the_start(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    next(loop := progress(range(5), 'counting'))
    assert last_drawn(capsys)[0].startswith('counting |')
    loop.close()


def test_in_a_notebook_the_caption_is_after_the_bar(monkeypatch):
    drawn = []
    monkeypatch.setattr(progress_module, 'in_notebook', lambda: True)
    monkeypatch.setattr(progress_module, 'progress_bar', NBProgressBar)
    monkeypatch.setattr(NBProgressBar, 'on_update', lambda self, value, text: drawn.append(text))
    monkeypatch.setattr(NBProgressBar, 'on_iter_begin', lambda self: None)
    monkeypatch.setattr(NBProgressBar, 'on_iter_end', lambda self: None)
    assert list(progress(range(5), 'counting')) == [0, 1, 2, 3, 4]
    assert all('counting' in text for text in drawn)
    assert len(drawn) == 6


def test_a_loop_left_early_leaves_no_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    for i in progress(range(5), 'counting'):
        if i == 2:
            break
    bar, left = last_drawn(capsys)
    assert '[2/5' in bar
    assert left == ''


def test_no_items_draw_no_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    assert list(progress([], 'counting')) == []
    assert capsys.readouterr().out == ''


def test_a_training_on_a_terminal_has_bars_and_no_colours(learner, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    fit(learner(), 2, 0.01)
    out = capsys.readouterr().out
    assert 'Epoch 2/2 : |' in out
    assert 'about ' in out
    assert '\x1b' not in out  # NO_COLOR needs no support
