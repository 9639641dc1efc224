"""Write tables as CSV files: atomically, and safe to open in a spreadsheet."""

import csv
import re
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from runtime.files import replacing


def write_csv(table: pd.DataFrame, file: Path) -> None:
    """Write `table` without its index to `file` atomically. Numbers are written as numbers.

    A spreadsheet treats text that begins with = + - @, a tab or a carriage return as a formula; a leading apostrophe
    makes it text. All text is quoted: a spreadsheet that separates columns by semicolons would find a formula in
    `a;=1`. The review page exports its verdicts by the same rules.
    https://owasp.org/www-community/attacks/CSV_Injection
    """
    text = {name: column.map(_as_text) for name, column in table.items() if not is_numeric_dtype(column)}
    with replacing(file) as part:
        # a file name may not be UTF-8
        table.assign(**text).to_csv(part, index=False, quoting=csv.QUOTE_NONNUMERIC, errors='surrogateescape')


def without_apostrophe(text: str) -> str:
    """Undo what `write_csv` does to text that a spreadsheet would read as a formula."""
    return re.sub(r"^'(?=[=+\-@\t\r])", '', text)


def _as_text(value: object) -> object:
    return re.sub(r'^(?=[=+\-@\t\r])', "'", str(value)) if isinstance(value, str | Path) else value
