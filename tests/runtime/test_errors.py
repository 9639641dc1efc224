import pytest
import torch

from runtime.errors import UserError, ends_in_one_line, printable


@pytest.mark.parametrize(('error', 'said'), [
    (UserError('no such place'), 'no such place'),
    (UserError('a\nb is no folder'), 'a b is no folder'),
    (UserError('\x1b]0;owned\x07\u202e'), '\\x1b]0;owned\\x07\\u202e'),
    (FileNotFoundError(2, 'No such file', '\x1b[2J'), '\\x1b[2J: No such file'),
    (FileNotFoundError(2, 'No such file or directory', 'x.png'), 'x.png: No such file or directory'),
    (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB'), 'out of memory: '),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), 'out of memory: '),
    (MemoryError(), 'out of memory: '),
    (RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed.'), 'a data loader worker was killed'),
])  # fmt: skip
def test_an_error_that_the_user_can_fix_is_one_line(error, said, capsys, handlers):
    with pytest.raises(SystemExit) as e, ends_in_one_line('x.py'):
        raise error
    assert e.value.code == 2
    line, end = capsys.readouterr().err.split('\n')
    assert line.startswith(f'x.py: {said}')
    assert end == ''


def test_an_error_of_a_dataloader_worker_is_its_last_line(capsys, handlers):
    with pytest.raises(SystemExit), ends_in_one_line('x.py'):
        raise UserError('Caught UserError in DataLoader worker process 0.\nTraceback (most recent call last):\n'
                        '  File "a.py"\nruntime.errors.UserError: a.png is no longer what it was')  # fmt: skip
    assert capsys.readouterr().err == 'x.py: a.png is no longer what it was\n'


def test_a_bug_is_not_hidden(handlers):
    with pytest.raises(RuntimeError, match='shapes'), ends_in_one_line('x.py'):
        raise RuntimeError('shapes differ')


def test_ctrl_c_ends_with_130(capsys, handlers):
    with pytest.raises(SystemExit) as e, ends_in_one_line('x.py'):
        raise KeyboardInterrupt
    assert (e.value.code, capsys.readouterr().err) == (130, 'x.py: interrupted\n')


def test_a_closed_stdout_is_accepted(monkeypatch, handlers):
    monkeypatch.setattr('sys.stdout', None)
    with ends_in_one_line('x.py'):
        pass


def test_a_broken_pipe_is_a_one_line_error(capsys, handlers):
    with pytest.raises(SystemExit) as e, ends_in_one_line('x.py'):
        raise BrokenPipeError(32, 'Broken pipe')
    assert (e.value.code, capsys.readouterr().err) == (2, 'x.py: the program reading its output has exited\n')


def test_printable_keeps_readable_text_and_is_idempotent():
    name = 'C:\\Bilder\\Käfer 甲虫 it\'s "x"'
    assert printable(name) == name
    assert printable('a\nb\x1b[31m\udcff\x9b') == 'a\\nb\\x1b[31m\\udcff\\x9b'
    assert printable(printable('a\nb')) == printable('a\nb')
