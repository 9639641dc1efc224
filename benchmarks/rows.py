"""Measurements that take hours: a row each, kept in a table from the moment it is there."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from atomic import replacing


def measured(file: Path, cases: Iterable[dict], measure: Callable[..., dict]) -> pd.DataFrame:
    """The rows of `file`, a CSV table, with one for each of `cases`: its own columns and those of `measure(**case)`.

    What the table has already is not measured again, so a recipe that changed needs another table.
    """
    rows = pd.read_csv(file).to_dict('records') if file.exists() else []
    for case in cases:
        if not any(case.items() <= row.items() for row in rows):
            rows.append({**case, **measure(**case)})
            with replacing(file) as part:
                pd.DataFrame(rows).round(5).to_csv(part, index=False)
    return pd.DataFrame(rows)
