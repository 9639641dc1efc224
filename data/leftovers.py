"""What lies beside images and is none: what systems and notebooks leave behind, and the folders of runs."""

import os
from pathlib import Path

from fastai.data.transforms import image_extensions

NAMES = {  # besides hidden ones such as .DS_Store, ._photo.jpg, .ipynb_checkpoints, .Trash-1000; in any case
    '__macosx', 'icon\r',  # macOS: in archives, and a folder's icon
    'thumbs.db', 'ehthumbs.db', 'desktop.ini', '$recycle.bin', 'recycler', 'system volume information',  # Windows
    'lost+found',  # Linux, in the root of a disk
    '@eadir', '#recycle', '#snapshot', '@recycle', '@__thumb', '@recently-snapshot',  # Synology and QNAP
    '__pycache__',  # Python
}  # fmt: skip


def is_leftover(entry: os.DirEntry) -> bool:
    """Whether an entry of a folder of images is neither an image nor a folder of some."""
    name = entry.name.lower()
    if name.startswith('.') or name in NAMES:
        return True
    try:
        return os.path.isdir(entry) and _is_output(Path(entry))  # unlike `entry.is_dir()`, False for a loop of links
    except PermissionError:
        return False  # to open the folder will say so


def _is_output(folder: Path) -> bool:
    """Whether `folder` is a run's, holds runs or a list of bad images (as `--out` does), or is fastai's for weights.

    A folder with an image is none of these, so that no class gets lost.
    """
    if _is_run(folder):
        return True
    found = False
    with os.scandir(folder) as entries:
        for entry in entries:
            if Path(entry.name).suffix.lower() in image_extensions:
                return False
            weights = folder.name == 'models' and entry.name.endswith('.pth')
            run = _is_run(Path(entry))
            found = found or weights or run or entry.name == 'bad_images.csv'
    return found


def _is_run(folder: Path) -> bool:
    if not (folder / 'models').is_dir():
        return False
    return any(
        (folder / name).is_file() for name in ('config.json', 'history.csv', 'models/last.pth')
    )  # or a notebook's
