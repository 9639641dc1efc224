"""Read a run's config.json."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.options import MAX_SIDE, Config
from runtime.checked_file import read_json


@dataclass(frozen=True)
class SavedRun:
    """A run as saved in config.json: options, model and images."""

    config: Config
    classes: list[str]
    size: tuple[int, int]  # height and width of the network's input
    resized: bool  # whether images are resized to it
    images: str  # their fingerprint
    environment: dict[str, str | None]  # versions, code and device


def read_config(file: Path) -> SavedRun:
    """Read `file`, a config.json or the folder that contains it; UserError if it is not a run's."""
    file = file / 'config.json' if file.is_dir() else file
    return read_json(file, 'config.json of a run', _parse)


def _parse(saved: dict[str, Any]) -> SavedRun:
    classes, size, resized = (saved[name] for name in ('classes', 'size', 'resized'))
    images, environment = saved['images'], dict(saved['surroundings'])
    if not (isinstance(classes, list) and all(isinstance(o, str) for o in classes)):
        raise ValueError('classes must be a list of names')
    if not len({*classes}) == len(classes) > 1:
        raise ValueError('classes must be two or more different names')
    if not (isinstance(size, list) and len(size) == 2 and all(type(o) is int and 1 <= o <= MAX_SIDE for o in size)):
        raise ValueError(f'size {size}')
    if not isinstance(resized, bool):
        raise ValueError(f'resized {resized}')
    if not isinstance(images, str) or not all(isinstance(o, str | None) for o in environment.values()):
        raise ValueError('images and surroundings must be text')
    return SavedRun(Config.from_json(saved), classes, tuple(size), resized, images, environment)
