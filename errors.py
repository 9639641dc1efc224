"""How a command ends that can't go on: in one line."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """What the user gave can't be used. The message is one line: what is wrong, where, and the way out."""


@contextmanager
def ends_in_one_line(command: str) -> Iterator[None]:
    """Exit with 2 and the message for a UserError or a file that may not be touched, with 130 for Ctrl-C."""
    try:
        yield
    except UserError as e:
        print(f'{command}: {e}', file=sys.stderr)
        sys.exit(2)
    except PermissionError as e:
        print(f'{command}: no permission for {e.filename}: change its rights or choose another place', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f'\n{command}: interrupted', file=sys.stderr)
        sys.exit(130)
