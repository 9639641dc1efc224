"""The photograph of a mistake, as the page shows it: whole, with the part that the network saw."""

from pathlib import Path

from fastai.data.core import TfmdDL
from PIL import Image

from data.augment import AlbumentationsTransform
from data.crop import Box, visible_part
from data.decode import open_rgb


def read_photograph(dl: TfmdDL, i: int, side: int) -> tuple[Image.Image, Box] | None:
    """Return image `i` of `dl`, at most `side` pixels wide and high, and the part of it that the network sees.

    None if `dl` doesn't crop files by an `AlbumentationsTransform`: its decoded input is then the whole image.
    """
    crops = [tfm.valid for tfm in dl.after_item.fs if isinstance(tfm, AlbumentationsTransform)]
    item = dl.dataset.items[i] if crops else None
    if not isinstance(item, str | Path):
        return None
    photograph = open_rgb(item, side)
    photograph.thumbnail((side, side))
    return photograph, visible_part(crops[0], photograph.shape)
