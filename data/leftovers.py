"""Entries to ignore in a folder of images: files of systems and notebooks, and the folders of runs."""

import os
from pathlib import Path

from fastai.data.transforms import image_extensions

NAMES = {  # in lower case; hidden entries (.DS_Store, ._photo.jpg, .ipynb_checkpoints, .Trash-1000) are ignored too
    '__macosx', 'icon\r',  # macOS: in archives; a folder's icon
    'thumbs.db', 'ehthumbs.db', 'desktop.ini', '$recycle.bin', 'recycler', 'system volume information',  # Windows
    'lost+found',  # Linux, in the root of a disk
    '@eadir', '#recycle', '#snapshot', '@recycle', '@__thumb', '@recently-snapshot',  # Synology and QNAP
    '__pycache__',  # Python
}  # fmt: skip


def is_leftover(entry: os.DirEntry) -> bool:
    """Whether to ignore an entry of a folder of images: it is neither an image nor a folder of images."""
    name = entry.name.lower()
    if name.startswith('.') or name in NAMES:
        return True
    if entry.is_file(follow_symlinks=False):  # known from the listing, where `isdir` asks for each file
        return False
    try:
        return os.path.isdir(entry) and _is_output(Path(entry))  # unlike `entry.is_dir()`, False for a loop of links
    except PermissionError:
        return False  # opening the folder later reports it


def _is_output(folder: Path) -> bool:
    """Whether `folder` is or holds runs, or holds bad_images.csv or fastai's weights; with an image it's a class."""
    found = _is_run(folder)
    with os.scandir(folder) as entries:
        for entry in entries:
            if Path(entry.name).suffix.lower() in image_extensions:
                return False
            weights = folder.name == 'models' and entry.name.endswith('.pth')
            run = _is_run(Path(entry))
            found = found or weights or run or entry.name == 'bad_images.csv'
    return found


def _is_run(folder: Path) -> bool:
    if folder.name.startswith('notebook-'):  # made by `get_learner` without a path
        return folder.is_dir()
    if not (folder / 'models').is_dir():
        return False
    config = folder / 'config.json'  # a common name: other projects have one, too
    if config.is_file() and config.stat().st_size < 2**24 and b'"surroundings"' in config.read_bytes():
        return True
    return any((folder / name).is_file() for name in ('history.csv', 'models/last.pth'))
