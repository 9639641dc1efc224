import sys

from tiny import screen

from bars import progress
from console import say


def test_a_line_takes_the_place_of_the_bar_which_goes_on_below(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    for i in progress(range(3), 'counting'):
        if i == 1:
            say('half way')
    out = capsys.readouterr().out
    assert screen(out) == ['half way', '']
    assert '2/3' in out.rpartition('half way')[2]


def test_an_error_takes_the_place_of_the_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    print('Epoch 1/4 : |###----|', end='')
    say('to go on: ...', file=sys.stderr)
    out, err = capsys.readouterr()
    assert screen(out) == ['']
    assert out.endswith('\r')  # where the terminal writes the error
    assert err == 'to go on: ...\n'


def test_a_control_c_on_a_terminal_is_erased_where_the_output_goes_to_a_file(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
    print('^C', end='', file=sys.stderr)
    say('interrupted', file=sys.stderr)
    out, err = capsys.readouterr()
    assert (out, screen(err)) == ('', ['interrupted', ''])


def test_a_log_file_gets_the_line_alone(capsys):
    say('half way')
    assert capsys.readouterr().out == 'half way\n'


def test_a_closed_output_is_no_bug(capsys, monkeypatch):
    monkeypatch.setattr('sys.stdout', None)
    say('half way', file=sys.stderr)
    assert capsys.readouterr().err == 'half way\n'
