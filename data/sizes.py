"""Choose the image size for training: small images of one size keep it, all others are cropped and resized."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path

from config.options import MIN_SIDE

Size = tuple[int, int]  # height, width

SMALL = 64  # longest side in pixels of images that are trained unresized, by a network for small images
USUAL = 224  # side of larger images after resizing; torchvision's networks were trained at this size
MAX_RATIO = 20  # of the longer side to the shorter: resizing a longer image's shorter side to 256 makes it huge
CENTRE = 0.875  # share of the resized shorter side that the centre crop keeps: 224 of 256, as in torchvision and timm
MOST = 0.9  # share of small images that must have one size; the others are then bad images


def choose_size(sizes: dict[Path, Size], wanted: int | None) -> tuple[Size, bool]:
    """Choose the training size of the images in `sizes`; also return whether they must be resized.

    `wanted` is the side of square images in pixels. Without it, small images nearly all of one size keep that size, and
    all others become 224x224.
    """
    [(common, n)] = Counter(sizes.values()).most_common(1) or [((USUAL, USUAL), 0)]
    if n >= (1.0 if wanted else MOST) * len(sizes) and may_stay(common, wanted):
        return common, False
    return (wanted or USUAL,) * 2, True


def may_stay(size: Size, wanted: int | None) -> bool:
    """Whether images of `size` are trained as they are, if enough of the images have it; see `choose_size`."""
    return size == (wanted, wanted) if wanted else max(size) <= SMALL


def side_to_keep(side: int, min_scale: float) -> int:
    """The shorter side that lets a photograph's smallest random crop have `side` pixels a side: 379 for 224 and 0.35.

    `min_scale` is that crop's share of the area. The centre crop needs less, unless `min_scale` is over 0.77.
    """
    return ceil(side / min(min_scale**0.5, CENTRE))


def shrunk(size: Size, side: int) -> Size:
    """The size after shrinking `size` until its shorter side is `side`; unchanged if that is 0 or not smaller."""
    shorter = min(size)
    return size if not 0 < side < shorter else tuple(round(length * side / shorter) for length in size)


@dataclass(frozen=True)
class Plan:
    """Which pixels are kept: images that `may_stay` with `wanted` as they are, others shrunk to `side`.

    Without `side` the pixels of images that are resized aren't kept.
    """

    wanted: int | None = None
    side: int | None = None

    def side_for(self, size: Size) -> int | None:
        """Return the side to which an image of `size` is shrunk, 0 if it is kept as it is, None if it isn't kept."""
        return 0 if may_stay(size, self.wanted) else self.side

    def matches(self, size: Size, side: int) -> bool:
        """Whether the pixels of an image of `size` that were shrunk to `side` are those to keep."""
        mine = self.side_for(size)
        return mine is not None and bool(mine) == bool(side) and shrunk(size, mine) == shrunk(size, side)

    def bytes(self, sizes: Iterable[Size]) -> int:
        """The bytes of the pixels that are kept of images of these `sizes`."""
        sides = ((size, n, self.side_for(size)) for size, n in Counter(map(tuple, sizes)).items())
        return 3 * sum(n * prod(shrunk(size, side)) for size, n, side in sides if side is not None)


def find_odd_sizes(sizes: dict[Path, Size], size: Size, resized: bool) -> list[tuple[Path, str]]:
    """List the images that can't be trained at `size`, each with the reason: another size, too small or too long."""
    odd = []
    for file, (height, width) in sizes.items():
        if not resized and (height, width) != size:
            odd.append((file, f'{format_size((height, width))}, the others are {format_size(size)}'))
        elif min(height, width) < MIN_SIDE:
            odd.append((file, f'{format_size((height, width))}, less than {MIN_SIDE} pixels'))
        elif max(height, width) > MAX_RATIO * min(height, width):
            odd.append((file, f'{format_size((height, width))}, over {MAX_RATIO} times as long as wide'))
    return odd


def format_size(size: Size) -> str:
    """Format `size` as widthxheight."""
    height, width = size
    return f'{width}x{height}'
