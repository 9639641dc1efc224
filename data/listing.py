"""List a data set's files with their classes: from a folder of class folders, or from a CSV of files and labels."""

import csv
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from fastai.data.transforms import parent_label

from data.layout import LONGEST, SPLITS, find_classes, find_splits, visible
from runtime.checked_file import read_file
from runtime.errors import UserError, printable

Files = dict[str, dict[str, list[Path]]]  # by split and class


@dataclass(frozen=True)
class Listing:
    """The files of a data set before they are checked; all splits have the same classes."""

    root: Path  # the folder that the files lie in
    files: Files  # sorted by class and name; 'train', then 'valid' and 'test' if there are such splits
    label: Callable[[Path], str]  # the class of a file
    places: dict[str, Path]  # the folder of each split, or the CSV
    test_name: str = 'test'  # the name of the split that is the test set
    unlabelled: list[Path] = field(default_factory=list)  # images to predict

    @property
    def classes(self) -> list[str]:
        """The names of the classes, sorted."""
        return list(self.files['train'])


class Labels:
    """The classes of the files of a CSV; calling it gives a file's class, as fastai's `parent_label` does."""

    def __init__(self, by_file: dict[Path, str]):
        self.by_file = by_file

    def __call__(self, file: Path) -> str:
        return self.by_file[file]


def list_images(path: Path) -> Listing:
    """List the files of a folder in one of the layouts of `data.layout`, or those named by a CSV.

    The CSV has the columns file, label and optionally split (train, valid or val, test). Its paths are relative to its
    folder. Raises UserError for an unknown layout, an invalid CSV, fewer than two classes, and a class that is missing
    in a split.
    """
    return _from_csv(path) if path.is_file() else _from_folder(path)


def _from_folder(path: Path) -> Listing:
    splits = find_splits(path)
    unlabelled = splits.pop('unlabelled', None)
    classes = find_classes(path, splits)
    files = {split: {name: visible(folder / name) for name in classes} for split, folder in splits.items()}
    test_name = splits['test'].name if 'test' in splits else 'test'
    return Listing(path, files, parent_label, splits, test_name, visible(unlabelled) if unlabelled else [])


def _from_csv(file: Path) -> Listing:
    columns = 'its columns are file (a path relative to its folder), label, and if you like split (train, valid, test)'
    rows = read_file(file, 'CSV of files and labels', lambda text: [*_rows(text)], columns)
    files, here = defaultdict(lambda: defaultdict(list)), printable(file)
    for name, label, split in sorted(rows, key=lambda row: (row[1], row[0])):
        files[split][label].append(file.parent / name)
    if 'train' not in files:
        raise UserError(f'{here} has no rows of the split train: add some')
    if len(files['train']) < 2:
        raise UserError(f'{here} has fewer than two classes in the split train: add rows of others')
    for split, by_class in files.items():
        for name in sorted(by_class.keys() ^ files['train'].keys()):
            with_it, without = (split, 'train') if name in by_class else ('train', split)
            raise UserError(
                f'{here}: the class {printable(name)} has rows of the split {with_it}, but none of {without}: each '
                'class needs images in both'
            )
    test_name = 'test'
    if 'valid' in files and 'test' not in files:
        test_name, files['test'] = 'valid', files.pop('valid')
    found = {split: dict(files[split]) for split in ('train', 'valid', 'test') if split in files}
    labels = Labels({file.parent / name: label for name, label, _ in rows})
    return Listing(file.parent, found, labels, dict.fromkeys(found, file), test_name)


def _rows(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield path, label and split of each row of a CSV; ValueError, with the line, if one is invalid."""
    text = StringIO(text.removeprefix('\ufeff'), newline='')
    reader, seen = csv.DictReader(text, strict=True, skipinitialspace=True), set()
    try:
        for row in reader:
            line = f'line {reader.line_num}'
            if missing := {'file', 'label'} - row.keys():
                raise ValueError(f'there is no column {min(missing)}')
            if unused := [name for name in row if name and 'split' in name.lower() and name != 'split']:
                raise ValueError(f'the column {unused[0]!r} is not used: rename it to split, or remove it')
            if None in row or None in row.values():
                raise ValueError(f'{line} has another number of columns than the first line')
            file, label, split = (row.get(name, '').strip() for name in ('file', 'label', 'split'))
            path = os.path.normpath(file)
            if not file or '\0' in file or os.path.isabs(path) or path.split(os.sep)[0] in ('.', '..'):
                raise ValueError(f'{line}: {file!r} is not a path within the folder of this CSV')
            if path in seen:
                raise ValueError(f'{line}: {file!r} is there a second time')
            # files are named after classes
            if not label or '\0' in label or '/' in label or os.sep in label or len(os.fsencode(label)) > LONGEST:
                raise ValueError(f'{line}: {label[:50]!r} is not a label of 1 to {LONGEST} bytes without slashes')
            if 'split' in row and split not in SPLITS:
                raise ValueError(f'{line}: {split!r} is not a split: {", ".join(SPLITS)}')
            seen.add(path)
            yield path, label, SPLITS[split or 'train']
    except csv.Error as e:
        raise ValueError(f'line {reader.line_num}: {e}') from e
