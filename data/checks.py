"""The images of a folder: every file is decoded once, and what is wrong is said in one line before training starts."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from atomic import replacing
from bars import progress
from data.files import BadImage, check_file
from errors import UserError

SPLITS = 'train', 'test'
MOST = 0.9  # of the images that have one size, for the others to be the odd ones out
MIN_SIDE = 16  # the network halves an image three times: what is smaller has less than a 2x2 map left for Grad-CAM


@dataclass(frozen=True)
class Images:
    """A folder whose images are good: two splits of the same classes, one size, files sorted by class and name."""

    path: Path
    train: list[Path]
    test: list[Path]
    classes: list[str]
    size: tuple[int, int]  # height, width
    bad: list[tuple[Path, str]]  # the files left out, and why


class BadImages(UserError):
    """Files that can't be used and weren't to be skipped: `bad` has all of them, each with the reason."""

    def __init__(self, message: str, bad: list[tuple[Path, str]]):
        super().__init__(message)
        self.bad = bad


def check_images(path: Path, skip_bad: bool = False) -> Images:
    """List and decode `path`/{train,test}/<class>/*; hidden files and files outside class folders are not looked at.

    Raises `BadImages` for files that can't be used, unless `skip_bad`: unreadable or damaged ones, and images of
    another size than nine in ten have. Raises `UserError` for a folder without that layout, a class in one split only
    or without images, fewer than two classes, images of many sizes or under 16 pixels.
    """
    classes = _classes(path)
    folders = [path / split / name for split in SPLITS for name in classes]
    files = [file for folder in folders for file in _visible(folder)]
    sizes, bad = _decode(files)
    bad = sorted(bad + _odd_sizes(sizes))
    if bad and not skip_bad:
        some = ', '.join(f'{_printable(file.relative_to(path))} ({reason})' for file, reason in bad[:3])
        count = '1 file' if len(bad) == 1 else f'{len(bad):,} files'
        more = ', ...' if len(bad) > 3 else ''
        raise BadImages(f"{count} of {path} can't be used: {some}{more}; delete them or pass --skip-bad", bad)
    for file, _ in bad:
        sizes.pop(file, None)
    filled = {file.parent for file in sizes}
    for folder in folders:
        if folder not in filled:
            raise UserError(f'{folder} has no image: add some, or delete the class from both train/ and test/')
    train, test = ([file for file in sizes if file.parents[1].name == split] for split in SPLITS)
    return Images(path, train, test, classes, _common_size(path, sizes), bad)


def write_bad_images(folder: Path, bad: list[tuple[Path, str]]) -> Path:
    """Write `bad` as `folder`/bad_images.csv (file,reason), the whole of it or nothing; return its path."""
    with replacing(folder / 'bad_images.csv') as part:
        table = pd.DataFrame(bad, columns=['file', 'reason'])
        table.to_csv(part, index=False, errors='surrogateescape')  # a file's name need not be UTF-8
    return folder / 'bad_images.csv'


def _visible(folder: Path) -> list[Path]:
    """Entries of `folder` sorted by name, without hidden ones such as .DS_Store."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith('.'))


def _classes(path: Path) -> list[str]:
    """The names of the class folders, which both splits must have."""
    for split in SPLITS:
        if not (path / split).is_dir():
            raise UserError(f'{path} has no folder {split}/: --data takes one with train/<class>/ and test/<class>/')
    train, test = ([d.name for d in _visible(path / split) if d.is_dir()] for split in SPLITS)
    for name in sorted({*train} ^ {*test}):
        here, there = ('train', 'test') if name in train else ('test', 'train')
        raise UserError(f'{path / here / name} has no counterpart in {there}/: each class needs images in both')
    if len(train) < 2:
        raise UserError(f'{path / "train"} needs two or more class folders: it has {len(train)}')
    return train


def _decode(files: list[Path]) -> tuple[dict[Path, tuple[int, int]], list[tuple[Path, str]]]:
    """Open all `files`: the height and width of the good ones, and the bad ones each with a reason.

    Serial: on 60,000 32x32 JPEGs and two cores, two threads took twice as long (the GIL), two processes 3/4 as long.
    """
    sizes, bad = {}, []
    for file in progress(files):
        try:
            sizes[file] = check_file(file)
        except BadImage as e:
            bad.append((file, str(e)))
    return sizes, bad


def _odd_sizes(sizes: dict[Path, tuple[int, int]]) -> list[tuple[Path, str]]:
    """The few images of another size than the rest; none where there is no rest to speak of."""
    counts = Counter(sizes.values()).most_common(1)
    if not counts or counts[0][1] < MOST * len(sizes):
        return []
    usual = counts[0][0]
    return [(file, f'{_told(size)}, the others are {_told(usual)}') for file, size in sizes.items() if size != usual]


def _common_size(path: Path, sizes: dict[Path, tuple[int, int]]) -> tuple[int, int]:
    """The one height and width that all images have."""
    first = {}
    for file, size in sizes.items():
        first.setdefault(size, file)
    names = [f'{_printable(file.relative_to(path))} is {_told(size)}' for size, file in first.items()]
    if len(names) > 1:
        raise UserError(f'images of {path} differ in size: {names[0]}, {names[1]}; resize them all to one size')
    (size,) = first
    if min(size) < MIN_SIDE:
        raise UserError(f'images of {path} are too small: {names[0]}; the network needs {MIN_SIDE}x{MIN_SIDE} or more')
    return size


def _told(size: tuple[int, int]) -> str:
    height, width = size
    return f'{width}x{height}'


def _printable(name: Path) -> str:
    """`name` with line breaks, escape codes and what isn't UTF-8 written as in Python: a message is one line."""
    return repr(str(name))[1:-1]
