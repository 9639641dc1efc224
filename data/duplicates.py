"""Images that are there more than once: files of the same content, found by its SHA-256."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from csv_file import write_csv

COLUMNS = 'file', 'split', 'class', 'same_as', 'same_as_split', 'same_as_class'


def find_duplicates(root: Path, subsets: Mapping[str, list[Path]], contents: Mapping[Path, bytes]) -> pd.DataFrame:
    """One row a copy: its file below `root`, split and class, then those of the first file of the same content.

    `subsets` has the files of 'train', 'valid' and 'test', in this order; where the test set validates, its files count
    as 'test'. `contents` has a digest of each file's content.
    """
    splits = {file: split for split, files in subsets.items() for file in files}
    first, rows = {}, []
    for file, split in splits.items():
        this = file.relative_to(root).as_posix(), split, file.parent.name
        original = first.setdefault(contents[file], this)
        if original is not this:
            rows.append(this + original)
    return pd.DataFrame(rows, columns=COLUMNS)


def leaked(duplicates: pd.DataFrame) -> set[str]:
    """The files of the test set whose content the training or validation set has too."""
    return {*duplicates.file[(duplicates['split'] == 'test') & (duplicates.same_as_split != 'test')]}


def count_duplicates(duplicates: pd.DataFrame) -> str | None:
    """One line about the copies, and about the ones that distort an accuracy; None if there are none."""
    if duplicates.empty:
        return None
    learnt = (duplicates['split'] == 'valid') & (duplicates.same_as_split == 'train')
    counts = {
        'test images that are in the training or validation set too': len(leaked(duplicates)),
        'validation images that are in the training set too': learnt.sum(),
        'in two classes': (duplicates['class'] != duplicates.same_as_class).sum(),
    }
    serious = '; '.join(f'{what}: {n:,}' for what, n in counts.items() if n)
    return (
        f'duplicate images: {len(duplicates):,}{serious and f" ({serious})"}; dls.duplicates lists them, and so does '
        "duplicates.csv in a run's folder"
    )


def write_duplicates(run: Path, duplicates: pd.DataFrame) -> None:
    """Write duplicates.csv to the folder `run` if there are any."""
    if len(duplicates):
        write_csv(duplicates, run / 'duplicates.csv')


def about_leaked(n: int, total: int, accuracy: float | None) -> str | None:
    """One line about the test accuracy without the `n` leaked of `total` images; None if there are none.

    `accuracy` is that of the others, None if there are no others.
    """
    if not n:
        return None
    too = 'in the training or validation set too'
    if accuracy is None:
        return f'all {total:,} test images are {too}: this test accuracy says nothing about new images'
    return f'without the {n:,} of {total:,} test images that are {too} the test accuracy is {accuracy:.2%}'
