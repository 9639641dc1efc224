"""Files of a run that may come from a stranger: read with a limit, and refused in one line if they don't fit."""

import json
import math
import stat
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from errors import UserError

MAX_BYTES = 2**24  # 20,000 classes with names of 200 bytes take 4 MB, twice
MAX_COLUMNS = 100  # pandas takes minutes for millions
# what `json`, pandas and the readers raise for content of another shape
UNFIT = ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError
T = TypeVar('T')


def read_file(file: Path, kind: str, parse: Callable[[str], T], way_out: str = 'restore a copy of it') -> T:
    """What `parse` makes of the UTF-8 text in `file`; UserError, with the `way_out`, where it is no `kind`.

    That is for a file of more than MAX_BYTES, a pipe, socket or device, and where `parse` raises a ValueError or
    another error of UNFIT. OSError where there is no such file.
    """
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
            raise ValueError('not a file')
        if found.st_size > MAX_BYTES:
            raise ValueError(f'{found.st_size:,} bytes, and more than {MAX_BYTES:,} are not read')
        return parse(file.read_text(encoding='utf-8'))
    except UNFIT as e:
        raise UserError(f'{file} is no {kind} ({type(e).__name__}: {_short(e)}): {way_out}') from e


def read_json(file: Path, kind: str, parse: Callable[[Any], T], nan: bool = False, **kwargs) -> T:
    """What `parse` makes of the JSON in `file`; errors and `kwargs` as of `read_file`.

    All its numbers are finite, unless `nan` allows the constants NaN, Infinity and -Infinity.
    """
    constants = {} if nan else {'parse_constant': _finite}
    return read_file(file, kind, lambda text: parse(json.loads(text, parse_float=_finite, **constants)), **kwargs)


def read_table(file: Path, kind: str, parse: Callable[[pd.DataFrame], T]) -> T:
    """What `parse` makes of the CSV in `file`; errors as of `read_file`."""

    def read(text):
        if text.partition('\n')[0].count(',') >= MAX_COLUMNS:
            raise ValueError(f'more than {MAX_COLUMNS} columns')
        return parse(pd.read_csv(StringIO(text)))

    return read_file(file, kind, read)


def number(value: Any, low: float, high: float) -> float:
    """`value` as a float; ValueError where it is no number from `low` to `high`."""
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError(f'{_short(value)} is no number from {low:g} to {high:g}')
    return float(value)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f'{_short(text)} is no finite number')
    return value


def _short(value: Any) -> str:
    text = ' '.join(str(value).split())
    return text if len(text) <= 200 else f'{text[:200]}...'
