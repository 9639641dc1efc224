"""Find duplicate images: files with the same SHA-256."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from runtime.csv_file import write_csv
from runtime.processes import on_rank0

COLUMNS = 'file', 'split', 'class', 'same_as', 'same_as_split', 'same_as_class'


def find_duplicates(
    root: Path, subsets: Mapping[str, list[Path]], contents: Mapping[Path, str], label: Callable[[Path], str]
) -> pd.DataFrame:
    """Return one row per copy: its path below `root`, split and class (`label`), then the same of the first file.

    `subsets` maps 'train', 'valid' and 'test', in this order, to their files; a file in both 'valid' and 'test' counts
    as 'test'. `contents` maps each file to a digest of its content.
    """
    splits = {file: split for split, files in subsets.items() for file in files}
    first, rows = {}, []

    def describe(file: Path) -> tuple[str, str, str]:
        return file.relative_to(root).as_posix(), splits[file], label(file)

    for file in splits:
        original = first.setdefault(contents[file], file)
        if original is not file:
            rows.append([*describe(file), *describe(original)])
    return pd.DataFrame(rows, columns=COLUMNS)


def leaked(duplicates: pd.DataFrame) -> set[str]:
    """Return the test files that are also in the training or validation set."""
    return {*duplicates.file[(duplicates['split'] == 'test') & (duplicates.same_as_split != 'test')]}


def count_duplicates(duplicates: pd.DataFrame) -> str | None:
    """Count the copies, and the ones that distort an accuracy, in one line; None if there are none."""
    if duplicates.empty:
        return None
    trained_on = (duplicates['split'] == 'valid') & (duplicates.same_as_split == 'train')
    counts = {
        'test images that are in the training or validation set too': len(leaked(duplicates)),
        'validation images that are in the training set too': trained_on.sum(),
        'in two classes': (duplicates['class'] != duplicates.same_as_class).sum(),
    }
    serious = '; '.join(f'{kind}: {n:,}' for kind, n in counts.items() if n)
    lists = "dls.duplicates lists them, and so does duplicates.csv in a run's folder"
    return f'duplicate images: {len(duplicates):,}{serious and f" ({serious})"}; {lists}'


@on_rank0
def write_duplicates(run: Path, duplicates: pd.DataFrame) -> None:
    """Write duplicates.csv to the folder `run` if there are any."""
    if len(duplicates):
        write_csv(duplicates, run / 'duplicates.csv')


def about_leaked(n: int, total: int, accuracy: float | None) -> str | None:
    """Report in one line the test accuracy without the `n` leaked images of `total`; None if `n` is 0.

    `accuracy` is measured on the remaining images; it is None if none remain.
    """
    if not n:
        return None
    leak = 'in the training or validation set too'
    if accuracy is None:
        return f'all {total:,} test images are {leak}: this test accuracy says nothing about new images'
    return f'without the {n:,} of {total:,} test images that are {leak} the test accuracy is {accuracy:.2%}'
