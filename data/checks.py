"""The images of a folder: every file is decoded once, and what is wrong is said in one line before training starts."""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fastai.vision.core import PILImage
from fastprogress import progress_bar
from PIL import Image, ImageOps, UnidentifiedImageError

from errors import UserError

SPLITS = 'train', 'test'
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


def open_rgb(file: str | Path) -> PILImage:
    """Decode `file` as 8-bit RGB, upright by its EXIF orientation; raise whatever Pillow raises if that fails.

    16-bit grey keeps its high byte, as Pillow does for 16-bit RGB: `convert` would clip it to white. Transparency is
    dropped, not composited, as fastai does.
    """
    with Image.open(file) as im:
        ImageOps.exif_transpose(im, in_place=True)
        if im.mode in ('I', 'F'):
            raise ValueError('32-bit pixels, whose range is not known')
        if im.mode.startswith('I;16'):
            im = Image.fromarray((np.asarray(im) >> 8).astype(np.uint8))
        im.info.pop('transparency', None)  # or Pillow warns that a palette's gets lost
        return PILImage.create(im.convert('RGB'))


def check_images(path: Path, skip_bad: bool = False) -> Images:
    """List and decode `path`/{train,test}/<class>/*; hidden files and files outside class folders are not looked at.

    Raises `UserError` for a folder without that layout, a class in one split only or without images, fewer than two
    classes, files that can't be read (unless `skip_bad`), images of different sizes or under 16 pixels.
    """
    classes = _classes(path)
    folders = [path / split / name for split in SPLITS for name in classes]
    files = [file for folder in folders for file in _visible(folder)]
    sizes, bad = _decode(files)
    if bad and not skip_bad:
        some = ', '.join(f'{file.relative_to(path)} ({reason})' for file, reason in bad[:3])
        count = '1 file' if len(bad) == 1 else f'{len(bad)} files'
        more = ', ...' if len(bad) > 3 else ''
        raise UserError(f"{count} of {path} can't be read as images: {some}{more}; delete them or pass --skip-bad")
    filled = {file.parent for file in sizes}
    for folder in folders:
        if folder not in filled:
            raise UserError(f'{folder} has no image: add some, or delete the class from both train/ and test/')
    train, test = ([file for file in sizes if file.parents[1].name == split] for split in SPLITS)
    return Images(path, train, test, classes, _common_size(path, sizes), bad)


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
    bar = progress_bar(files, leave=False) if sys.stdout.isatty() else files  # fastprogress would fill a log file
    with warnings.catch_warnings():
        warnings.simplefilter('error', Image.DecompressionBombWarning)
        for file in bar:
            try:
                if not file.is_file():  # opening a named pipe would wait for ever
                    raise ValueError('not a regular file')
                sizes[file] = open_rgb(file).shape
            except Exception as e:  # Pillow's decoders raise nearly every type there is
                bad.append((file, _reason(e)))
    return sizes, bad


def _reason(e: Exception) -> str:
    if isinstance(e, UnidentifiedImageError):
        return 'not an image'
    return 'truncated' if 'truncated' in str(e).lower() else ' '.join(str(e).split()) or type(e).__name__


def _common_size(path: Path, sizes: dict[Path, tuple[int, int]]) -> tuple[int, int]:
    """The one height and width that all images have."""
    first = {}
    for file, size in sizes.items():
        first.setdefault(size, file)
    names = [f'{file.relative_to(path)} is {width}x{height}' for (height, width), file in first.items()]
    if len(names) > 1:
        raise UserError(f'images of {path} differ in size: {names[0]}, {names[1]}; resize them all to one size')
    (size,) = first
    if min(size) < MIN_SIDE:
        raise UserError(f'images of {path} are too small: {names[0]}; the network needs {MIN_SIDE}x{MIN_SIDE} or more')
    return size
