"""Check a folder of images before training: decode every file once and report problems in one line."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from data.decode import check_file
from data.examine import Checked, examine
from data.limits import BadImage
from data.listing import Listing, list_images
from data.sizes import Plan, Size, choose_size, find_odd_sizes
from data.split import split_off
from runtime.csv_file import write_csv
from runtime.errors import UserError, printable
from runtime.processes import on_rank0

MOST = 2  # times the smallest class: a larger class is reported as unbalanced
TEST_SHARE = 0.2  # of each class becomes the test set if there is none


@dataclass(frozen=True)
class Images:
    """A data set's checked images: all splits have the same classes; files are sorted by class and name."""

    path: Path
    train: list[Path]
    valid: list[Path]  # empty if there is no validation set; part of `train` then validates
    test: list[Path]
    classes: list[str]
    size: Size  # height and width for training
    resized: bool  # whether images must be resized to `size`
    notes: list[str]  # lines to print: where the test set comes from, if it isn't test/
    bad: list[tuple[Path, str]]  # files left out, each with the reason
    unlabelled: list[Path]  # unchecked images to predict
    label: Callable[[Path], str] = field(compare=False)  # the class of a file
    checked: Checked = field(compare=False)


class BadImages(UserError):
    """Some files can't be used and `skip_bad` is off; `bad` lists each with the reason."""

    def __init__(self, message: str, bad: list[tuple[Path, str]]):
        super().__init__(message)
        self.bad = bad


def check_images(path: Path, skip_bad: bool = False, size: int | None = None, side: int | None = None) -> Images:
    """List and decode the images of `path`, a folder or a CSV as in `list_images`.

    Hidden files and files outside class folders are ignored. `data.sizes` chooses the size, unless `size` gives the
    side of square images; pixels are kept as `data.sizes.Plan` says for `size` and `side`. Without a test set, a fifth
    of each class becomes it, the same for every seed. Raises `BadImages` for files that are unreadable, damaged or of
    an odd size, unless `skip_bad`. Raises `UserError` as `list_images`, and for a class without images.
    """
    listing = list_images(path)
    path, classes = listing.root, listing.classes
    listed = [file for by_class in listing.files.values() for files in by_class.values() for file in files]
    checked = examine(path, listed, Plan(size, side))
    sizes, bad = _sort(checked)
    chosen, resized = choose_size(sizes, size)
    bad = sorted(bad + find_odd_sizes(sizes, chosen, resized))
    if bad and not skip_bad:
        some = ', '.join(f'{printable(file.relative_to(path))} ({reason})' for file, reason in bad[:3])
        count = '1 file' if len(bad) == 1 else f'{len(bad):,} files'
        more = ', ...' if len(bad) > 3 else ''
        odd = not resized and any(file in sizes for file, _ in bad)
        resize = ', or --size, which resizes all' if odd else ''
        out = f'move them elsewhere or pass --skip-bad{resize}'
        raise BadImages(f"{count} of {printable(path)} can't be used: {some}{more}; {out}", bad)
    for file, _ in bad:
        sizes.pop(file, None)
    found = {
        split: [file for name, files in by_class.items() for file in _used(listing, split, name, files, sizes)]
        for split, by_class in listing.files.items()
    }
    train, valid, test = (found.get(split, []) for split in ('train', 'valid', 'test'))
    train, test, notes = _with_test_set(listing, train, test)
    return Images(
        path, train, valid, test, classes, chosen, resized, notes, bad, listing.unlabelled, listing.label, checked
    )


def _with_test_set(listing: Listing, train: list[Path], test: list[Path]) -> tuple[list[Path], list[Path], list[str]]:
    """Return `train`, less a fifth of each class if there is no `test`, the test set, and lines about its origin."""
    why = 'there is no test/'
    if listing.unlabelled:
        why = f'test/ has no class folders, so its {len(listing.unlabelled):,} images are predicted, not scored'
    if test:
        val = f'{why}: the {len(test):,} images of {listing.test_name}/ are the test set'
        return train, test, [] if listing.test_name == 'test' else [val]
    what, total = f'a test set of {TEST_SHARE:.0%}', len(train)
    train, test = split_off(train, listing.label, round(TEST_SHARE * total), 0, what)
    if untested := {*listing.classes} - {*map(listing.label, test)}:
        raise UserError(f'{_place(listing, "train", min(untested))} has too few images for {what}: add some')
    return train, test, [f'{why}: {len(test):,} of the {total:,} images are the test set, the same in every run']


def _used(listing: Listing, split: str, name: str, files: list[Path], sizes: dict[Path, Size]) -> list[Path]:
    """Return the usable `files` of a class; UserError if there are none."""
    if used := [file for file in files if file in sizes]:
        return used
    homes = ' and '.join(f'{printable(place.name)}/' for place in listing.places.values())
    raise UserError(f'{_place(listing, split, name)} has no image: add some, or move the class out of {homes}')


def _place(listing: Listing, split: str, name: str) -> str:
    """Name a class in a message: its folder, or its rows in the CSV."""
    place = listing.places[split]
    return f'{printable(place)}, class {printable(name)},' if place.is_file() else printable(place / name)


def write_bad_images(folder: Path, bad: list[tuple[Path, str]]) -> Path:
    """Write `bad` to `folder`/bad_images.csv (file,reason) atomically; return its path."""
    write_csv(pd.DataFrame(bad, columns=['file', 'reason']), folder / 'bad_images.csv')
    return folder / 'bad_images.csv'


@on_rank0
def report_left_out(run: Path, left_out: list[tuple[Path, str]]) -> None:
    """If files were left out, list them in `run`/bad_images.csv and print where."""
    if left_out:
        listed = printable(write_bad_images(run, left_out))
        print(f'files left out: {len(left_out):,}; all are listed with the reason in {listed}')


def _sort(checked: Checked) -> tuple[dict[Path, Size], list[tuple[Path, str]]]:
    """Return the height and width of good files, and bad files with their reasons."""
    sizes, bad, cache = {}, [], checked.cache
    for file, content in checked.contents.items():
        if content in cache.good:
            height, width, *_ = cache.good[content]
            sizes[file] = height, width
        else:
            bad.append((file, cache.bad[content] if content else _why_unreadable(file)))
    return sizes, bad


def _why_unreadable(file: Path) -> str:
    try:
        check_file(file)
    except BadImage as e:
        return str(e)
    return 'unreadable at first'


def count_classes(labels: Iterable[str], classes: list[str]) -> dict[str, int]:
    """Count the `labels` of each of `classes`."""
    counts = Counter(labels)
    return {name: counts[name] for name in classes}


def imbalance(counts: dict[str, int]) -> tuple[str, str] | None:
    """Return the largest and the smallest class if the largest has over twice as many images, else None."""
    large, small = max(counts, key=counts.get), min(counts, key=counts.get)
    return (large, small) if counts[large] > MOST * counts[small] else None


def unbalanced_line(counts: dict[str, int]) -> str | None:
    """Describe unbalanced classes in one line; None if they are balanced."""
    if not (classes := imbalance(counts)):
        return None
    large, small = classes
    return (
        f'the classes are unbalanced: {counts[large]:,} training images of {large}, {counts[small]:,} of {small}; the '
        'accuracy says more about the large ones, per_class.csv about each'
    )
