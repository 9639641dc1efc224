import sys

from tiny import screen

from runtime.console import say
from runtime.progress import progress


def test_a_line_replaces_the_bar_which_continues_below(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    for i in progress(range(3), 'counting'):
        if i == 1:
            say('half way')
    out = capsys.readouterr().out
    assert screen(out) == ['half way', '']
    assert '2/3' in out.rpartition('half way')[2]


def test_an_error_replaces_the_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    print('Epoch 1/4 : |###----|', end='')
    say('to resume: ...', file=sys.stderr)
    out, err = capsys.readouterr()
    assert screen(out) == ['']
    assert out.endswith('\r')  # so the error starts at the line's beginning
    assert err == 'to resume: ...\n'


def test_control_c_on_the_terminal_is_erased_if_stdout_is_a_file(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
    print('^C', end='', file=sys.stderr)
    say('interrupted', file=sys.stderr)
    out, err = capsys.readouterr()
    assert (out, screen(err)) == ('', ['interrupted', ''])


def test_a_log_file_gets_only_the_line(capsys):
    say('half way')
    assert capsys.readouterr().out == 'half way\n'


def test_a_closed_stdout_is_accepted(capsys, monkeypatch):
    monkeypatch.setattr('sys.stdout', None)
    say('half way', file=sys.stderr)
    assert capsys.readouterr().err == 'half way\n'
