"""Predict the images of a data set that have no labels."""

from pathlib import Path

import pandas as pd

from data.prediction import batches, probabilities
from runtime.csv_file import write_csv
from runtime.errors import printable
from training.saved_run import load_model


def write_predictions(run: Path, root: Path, files: list[Path]) -> Path:
    """Write `run`/predictions.csv with the model of `run`, and return its path.

    One row per file: its path relative to `root`, the predicted class and its probability; for an unusable file the
    reason in the column `error` instead. A printed line counts the images.
    """
    learn, rows = load_model(run), {}
    for good, x, bad in batches(learn, files):
        rows |= {file: (None, None, reason) for file, reason in bad}
        if good:
            p, best = probabilities(learn, x).max(1)
            classes = [learn.dls.vocab[i] for i in best.tolist()]
            rows |= {file: (*row, None) for file, *row in zip(good, classes, p.tolist(), strict=True)}
    columns = list(zip(*(rows[file] for file in files), strict=True))
    names = [file.relative_to(root).as_posix() for file in files]
    table = dict(zip(('file', 'class', 'probability', 'error'), (names, *columns), strict=True))
    write_csv(pd.DataFrame(table), run / 'predictions.csv')
    bad = sum(error is not None for error in columns[2])
    unusable = f', {bad:,} of them unusable' if bad else ''
    print(f'images without labels: {len(files):,}{unusable}; predicted in {printable(run / "predictions.csv")}')
    return run / 'predictions.csv'
