"""Which size images are trained at: as they are where they're small and alike, else cropped and resized to one."""

from collections import Counter
from pathlib import Path

Size = tuple[int, int]  # height, width

SMALL = 64  # pixels a side, at most, of images that are trained as they are, and by a network for such
USUAL = 224  # what larger ones become, and what torchvision's networks were made for
MIN_SIDE = 16  # the network halves a small image three times: less has under 2x2 pixels left for Grad-CAM
MAX_RATIO = 20  # of the longer side to the shorter: what is longer gets huge when its shorter side is made 256
MOST = 0.9  # of small images that have one size, for the others to be the odd ones out


def choose_size(sizes: dict[Path, Size], wanted: int | None) -> tuple[Size, bool]:
    """The size that images of `sizes` are trained at, and whether they have to be resized for that.

    Where no side is `wanted` (in pixels, images become square), they are as they are if they're small and nearly all of
    one size, else 224x224.
    """
    usual = _usual(sizes, 1.0 if wanted else MOST)
    if usual and (usual == (wanted, wanted) if wanted else max(usual) <= SMALL):
        return usual, False
    return (wanted or USUAL,) * 2, True


def odd_ones(sizes: dict[Path, Size], size: Size, resized: bool) -> list[tuple[Path, str]]:
    """The images that can't be trained at `size`, each with the reason: unlike the rest, too small or too long."""
    odd = []
    for file, (height, width) in sizes.items():
        if not resized and (height, width) != size:
            odd.append((file, f'{told((height, width))}, the others are {told(size)}'))
        elif min(height, width) < MIN_SIDE:
            odd.append((file, f'{told((height, width))}, less than {MIN_SIDE} pixels'))
        elif max(height, width) > MAX_RATIO * min(height, width):
            odd.append((file, f'{told((height, width))}, over {MAX_RATIO} times as long as wide'))
    return odd


def told(size: Size) -> str:
    """As people say it: the width first."""
    height, width = size
    return f'{width}x{height}'


def _usual(sizes: dict[Path, Size], share: float) -> Size | None:
    """The size that at least this `share` of the images has."""
    counts = Counter(sizes.values()).most_common(1)
    return counts[0][0] if counts and counts[0][1] >= share * len(sizes) else None
