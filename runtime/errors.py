"""Exit with a one-line message instead of a traceback."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.console import say


class UserError(ValueError):
    """An input can't be used. The message is one line: what is wrong, where, and how to fix it.

    Escape codes in it, for example of an untrusted file, are printed as Python escapes: no terminal executes them.
    """

    def __init__(self, message: str):
        super().__init__(message)
        self.message = '\n'.join(map(printable, message.split('\n')))  # a DataLoader worker's message is its traceback

    def __str__(self) -> str:
        return self.message  # fastai rewrites the `args` of a callback's exception into two lines


def printable(name: object) -> str:
    """Return `name` in one line: line breaks, escape codes and non-UTF-8 bytes become Python escapes. Idempotent."""
    return ''.join(char if char.isprintable() else repr(char)[1:-1] for char in str(name))


def exit_on_interrupt(command: str) -> None:
    """Make Ctrl-C and SIGTERM exit with 130 at once, until `ends_in_one_line`: imports could swallow the interrupt."""

    def leave(signum, frame):
        os.write(2, f'\n{command}: interrupted\n'.encode())
        os._exit(130)

    for signum in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(signum) != signal.SIG_IGN:  # under nohup it stays ignored
            signal.signal(signum, leave)


@contextmanager
def ends_in_one_line(command: str) -> Iterator[None]:
    """Print an error as one line and exit: 2 for a UserError or a system error (rights, disk, memory), 130 for Ctrl-C.

    SIGTERM is handled like Ctrl-C. stdout is line-buffered, and characters that its encoding lacks are escaped.
    """
    if sys.stdout:  # None if it is closed
        sys.stdout.reconfigure(line_buffering=True, errors='backslashreplace')
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = 2
    try:
        yield
        return
    except UserError as e:
        reason = _one_line(e)
    except BrokenPipeError:
        reason = 'the program reading its output has exited'
    except OSError as e:
        reason = f'{printable(e.filename or "a file")}: {e.strerror or _one_line(e)}'
    except (RuntimeError, MemoryError) as e:
        if not (reason := _no_memory(e)):
            raise
    except KeyboardInterrupt:
        code, reason = 130, 'interrupted'
    say(f'{command}: {reason}', file=sys.stderr)
    sys.exit(code)


def _no_memory(e: RuntimeError | MemoryError) -> str:
    """The message for an out-of-memory error of torch or numpy; '' for other errors."""
    text = str(e)
    if 'DataLoader worker' in text:
        return 'a data loader worker was killed, often because memory ran out: use fewer --workers'
    if isinstance(e, MemoryError) or 'out of memory' in text or "can't allocate memory" in text:
        return 'out of memory: a run with a smaller --bs or --size needs less'
    return ''


def _one_line(e: Exception) -> str:
    """The message of `e`. A DataLoader worker's error has the whole traceback as its message: take the last line."""
    lines = str(e).strip().splitlines() or [type(e).__name__]
    line = lines[-1] if 'Traceback (most recent' in str(e) else ' '.join(lines)
    return printable(line.removeprefix('runtime.errors.UserError: '))
