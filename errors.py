"""How a command ends that can't go on: in one line."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from console import say


class UserError(ValueError):
    """What the user gave can't be used. The message is one line: what is wrong, where, and the way out.

    Escape codes in it, as from a stranger's file, are written as in Python: a terminal or notebook would obey them.
    """

    def __init__(self, message: str):
        super().__init__(message)
        self.message = '\n'.join(map(printable, message.split('\n')))  # a loader's worker sends its traceback

    def __str__(self) -> str:
        return self.message  # fastai rewrites the `args` of what a callback raises, into two lines


def printable(name: object) -> str:
    """`name` with line breaks, escape codes and what isn't UTF-8 written as in Python: a message is one line.

    The same if it's applied twice.
    """
    return ''.join(char if char.isprintable() else repr(char)[1:-1] for char in str(name))


def exit_on_interrupt(command: str) -> None:
    """Let Ctrl-C and SIGTERM exit with 130 at once, until `ends_in_one_line` takes over.

    For the seconds of the imports, where a KeyboardInterrupt ends in a traceback, or a library swallows it.
    """

    def leave(signum, frame):
        os.write(2, f'\n{command}: interrupted\n'.encode())
        os._exit(130)

    for signum in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(signum) != signal.SIG_IGN:  # as nohup wants
            signal.signal(signum, leave)


@contextmanager
def ends_in_one_line(command: str) -> Iterator[None]:
    """Exit with 2 and the message for a UserError or what the system refuses (rights, space, memory), 130 for Ctrl-C.

    SIGTERM ends it as Ctrl-C does. A log file gets each line when it's due, and a name that its encoding lacks as an
    escape.
    """
    if sys.stdout:  # None where it's closed
        sys.stdout.reconfigure(line_buffering=True, errors='backslashreplace')
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except UserError as e:
        say(f'{command}: {_one_line(e)}', file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        say(f'{command}: nobody reads its output any more', file=sys.stderr)
        sys.exit(2)
    except OSError as e:
        say(f'{command}: {printable(e.filename or "a file")}: {e.strerror or _one_line(e)}', file=sys.stderr)
        sys.exit(2)
    except (RuntimeError, MemoryError) as e:
        if not (refusal := _no_memory(e)):
            raise
        say(f'{command}: {refusal}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        say(f'{command}: interrupted', file=sys.stderr)
        sys.exit(130)


def _no_memory(e: RuntimeError | MemoryError) -> str:
    """What to do about one of torch's or numpy's that says that there is no memory; '' for others."""
    text = str(e)
    if 'DataLoader worker' in text:
        return 'a process that loads images was killed, often for want of memory: fewer --workers need less'
    if isinstance(e, MemoryError) or 'out of memory' in text or "can't allocate memory" in text:
        return 'out of memory: a run with a smaller --bs or --size needs less'
    return ''


def _one_line(e: Exception) -> str:
    """What a loader's worker raised comes with its whole traceback as the message; the last line says it."""
    lines = str(e).strip().splitlines() or [type(e).__name__]
    line = lines[-1] if 'Traceback (most recent' in str(e) else ' '.join(lines)
    return printable(line.removeprefix('errors.UserError: '))
