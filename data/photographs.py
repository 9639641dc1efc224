"""The pixels of photographs: from the cache, or decoded whenever they are read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.decode import open_shrunk
from data.limits import BadImage
from data.pixel_cache import Mapped, Row
from data.sizes import shrunk
from runtime.errors import UserError


@dataclass
class Photographs:
    """The checked `files` as arrays of H x W x 3, uint8, shrunk to `side` (`data.antialias.shrink`).

    `kept` has each file's row of `Cache.good`; the pixels are in `mapped`. If `kept` is None, a file is decoded when it
    is read, with the same result; UserError if it has changed.
    """

    files: list[Path]
    side: int
    mapped: Mapped
    kept: list[Row] | None

    def __getitem__(self, i: int) -> np.ndarray:
        if self.kept:
            height, width, start, side = self.kept[i]
            height, width = shrunk((height, width), side)
            pixels = self.mapped.pixels[start : start + 3 * height * width]
            return pixels.reshape(height, width, 3) if side else pixels.reshape(3, height, width).transpose(1, 2, 0)
        try:
            return open_shrunk(self.files[i], self.side)
        except (BadImage, OSError) as e:
            raise UserError(f'{self.files[i]} has changed since it was checked: {e}') from e
