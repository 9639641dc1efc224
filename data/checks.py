"""The images of a folder: every file is decoded once, and what is wrong is said in one line before training starts."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bars import progress
from csv_file import write_csv
from data.files import BadImage, check_file
from data.layout import find_classes, find_splits, visible
from data.sizes import Size, choose_size, odd_ones
from data.split import split_off
from errors import UserError, printable

TEST_SHARE = 0.2  # of each class, where there is no test set


@dataclass(frozen=True)
class Images:
    """A folder whose images are good: splits of the same classes, files sorted by class and name."""

    path: Path
    train: list[Path]
    valid: list[Path]  # none where a part of `train` is to validate
    test: list[Path]
    classes: list[str]
    size: Size  # height, width that they are trained at
    resized: bool  # whether that's not the one they have
    test_drawn: bool  # whether the test set was split off class folders
    bad: list[tuple[Path, str]]  # the files left out, and why


class BadImages(UserError):
    """Files that can't be used and weren't to be skipped: `bad` has all of them, each with the reason."""

    def __init__(self, message: str, bad: list[tuple[Path, str]]):
        super().__init__(message)
        self.bad = bad


def check_images(path: Path, skip_bad: bool = False, size: int | None = None) -> Images:
    """List and decode the images of `path`; hidden files and files outside class folders are not looked at.

    `data.layout` says how they may lie there and `data.sizes` which size (`size` pixels square, if it's given) they are
    trained at. A fifth of each class is the test set where there is none, the same whatever the seed of a run. Raises
    `BadImages` for files that can't be used, unless `skip_bad`: unreadable or damaged ones, and those of an odd size.
    Raises `UserError` for a folder without the layout, a class that a split lacks or has no images of, and fewer than
    two classes.
    """
    splits = find_splits(path)
    classes = find_classes(path, splits)
    folders = [split / name for split in splits.values() for name in classes]
    sizes, bad = _decode([file for folder in folders for file in visible(folder)])
    chosen, resized = choose_size(sizes, size)
    bad = sorted(bad + odd_ones(sizes, chosen, resized))
    if bad and not skip_bad:
        some = ', '.join(f'{printable(file.relative_to(path))} ({reason})' for file, reason in bad[:3])
        count = '1 file' if len(bad) == 1 else f'{len(bad):,} files'
        more = ', ...' if len(bad) > 3 else ''
        resize = ', or --size, which resizes all' if any('the others are' in reason for _, reason in bad) else ''
        out = f'move them elsewhere or pass --skip-bad{resize}'
        raise BadImages(f"{count} of {printable(path)} can't be used: {some}{more}; {out}", bad)
    for file, _ in bad:
        sizes.pop(file, None)
    filled = {file.parent for file in sizes}
    for folder in folders:
        if folder not in filled:
            homes = ' and '.join(f'{printable(split.name)}/' for split in splits.values())
            raise UserError(f'{printable(folder)} has no image: add some, or move the class out of {homes}')
    files = {split: [file for file in sizes if file.parents[1] == folder] for split, folder in splits.items()}
    train, valid, test = (files.get(split, []) for split in ('train', 'valid', 'test'))
    if not test:
        train, test = split_off(train, round(TEST_SHARE * len(train)), 0, f'a test set of {TEST_SHARE:.0%}')
        if untested := {*classes} - {file.parent.name for file in test}:
            raise UserError(
                f'{printable(path / min(untested))} has too few images for a test set of {TEST_SHARE:.0%}: add some'
            )
    return Images(path, train, valid, test, classes, chosen, resized, 'test' not in splits, bad)


def write_bad_images(folder: Path, bad: list[tuple[Path, str]]) -> Path:
    """Write `bad` as `folder`/bad_images.csv (file,reason), the whole of it or nothing; return its path."""
    write_csv(pd.DataFrame(bad, columns=['file', 'reason']), folder / 'bad_images.csv')
    return folder / 'bad_images.csv'


def _decode(files: list[Path]) -> tuple[dict[Path, Size], list[tuple[Path, str]]]:
    """Open all `files`: the height and width of the good ones, and the bad ones each with a reason.

    Serial: on 60,000 32x32 JPEGs and two cores, two threads took twice as long (the GIL), two processes 3/4 as long.
    """
    sizes, bad = {}, []
    for file in progress(files, 'checking images'):
        try:
            sizes[file] = check_file(file)
        except BadImage as e:
            bad.append((file, str(e)))
    return sizes, bad
