"""Save the measurements of a long benchmark row by row."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from runtime.files import replacing


def measured(file: Path, cases: Iterable[dict], measure: Callable[..., dict]) -> pd.DataFrame:
    """Add a row for each of `cases` to the CSV table `file`: its own columns and those of `measure(**case)`.

    Cases that are in the table are not measured again: a changed recipe needs another table.
    """
    rows = pd.read_csv(file).to_dict('records') if file.exists() else []
    for case in cases:
        if not any(case.items() <= row.items() for row in rows):
            rows.append({**case, **measure(**case)})
            with replacing(file) as part:
                pd.DataFrame(rows).round(5).to_csv(part, index=False)
    return pd.DataFrame(rows)
