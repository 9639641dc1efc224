"""Read a run's files, which may be untrusted: their size is limited, and an invalid file is a one-line error."""

import csv
import json
import math
import stat
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from runtime.errors import UserError

MAX_BYTES = 2**24  # 20,000 class names of 200 bytes take 4 MB, and a file may list them twice
MAX_COLUMNS = 100  # pandas takes minutes to parse millions of columns
# raised by `json`, `csv`, pandas and the `parse` functions for unexpected content
INVALID = ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError, csv.Error
T = TypeVar('T')


def read_file(file: Path, kind: str, parse: Callable[[str], T], way_out: str = 'restore a copy of it') -> T:
    """Return `parse(text)` for the UTF-8 text in `file`.

    Raises UserError, ending in `way_out`, if the file is larger than MAX_BYTES, is a pipe, socket or device, or if
    `parse` raises one of INVALID; OSError if there is no file.
    """
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would block
            raise ValueError('not a file')
        if found.st_size > MAX_BYTES:
            raise ValueError(f'{found.st_size:,} bytes, over the limit of {MAX_BYTES:,}')
        return parse(file.read_text(encoding='utf-8'))
    except INVALID as e:
        raise UserError(f'{file} is not a valid {kind} ({type(e).__name__}: {_short(e)}): {way_out}') from e


def read_json(file: Path, kind: str, parse: Callable[[Any], T], nan: bool = False, **kwargs) -> T:
    """Return `parse(content)` for JSON as `read_file` does; `nan` allows the constants NaN, Infinity and -Infinity."""
    constants = {} if nan else {'parse_constant': _finite}
    return read_file(file, kind, lambda text: parse(json.loads(text, parse_float=_finite, **constants)), **kwargs)


def read_table(file: Path, kind: str, parse: Callable[[pd.DataFrame], T], **kwargs) -> T:
    """Return `parse(table)` for the CSV in `file`, read with pandas' `kwargs`; errors are those of `read_file`."""

    def read(text):
        if text.partition('\n')[0].count(',') >= MAX_COLUMNS:
            raise ValueError(f'more than {MAX_COLUMNS} columns')
        return parse(pd.read_csv(StringIO(text.removeprefix('\ufeff')), **kwargs))

    return read_file(file, kind, read)


def number(value: Any, low: float, high: float) -> float:
    """Return `value` as a float; ValueError if it is not a number from `low` to `high`."""
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError(f'{_short(value)} is not a number from {low:g} to {high:g}')
    return float(value)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f'{_short(text)} is not a finite number')
    return value


def _short(value: Any) -> str:
    text = ' '.join(str(value).split())
    return text if len(text) <= 200 else f'{text[:200]}...'
