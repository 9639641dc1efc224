"""How a command ends that can't go on: in one line."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """What the user gave can't be used. The message is one line: what is wrong, where, and the way out."""

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message  # fastai rewrites the `args` of what a callback raises, into two lines


@contextmanager
def ends_in_one_line(command: str) -> Iterator[None]:
    """Exit with 2 and the message for a UserError or what the system refuses (rights, space), with 130 for Ctrl-C.

    The system's refusals are OSErrors, and a RuntimeError of torch's where a process that loads images was killed.
    SIGTERM ends it as Ctrl-C does. A log file gets each line when it's due, and a name that its encoding lacks as an
    escape.
    """
    sys.stdout.reconfigure(line_buffering=True, errors='backslashreplace')
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except UserError as e:
        print(f'{command}: {_last_line(e)}', file=sys.stderr)
        sys.exit(2)
    except OSError as e:
        print(f'{command}: {e.filename or "a file"}: {e.strerror or _last_line(e)}', file=sys.stderr)
        sys.exit(2)
    except RuntimeError as e:
        if 'DataLoader worker' not in str(e):
            raise
        print(
            f'{command}: a process that loads images was killed, often for want of memory: fewer --workers need less',
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print(f'\n{command}: interrupted', file=sys.stderr)
        sys.exit(130)


def _last_line(e: Exception) -> str:
    """What a loader's worker raised comes with its whole traceback as the message; the last line says it."""
    return (str(e).strip().splitlines() or [type(e).__name__])[-1].removeprefix('errors.UserError: ')
