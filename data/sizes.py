"""Choose the image size for training: small images of one size keep it, all others are cropped and resized."""

from collections import Counter
from pathlib import Path

from config.options import MIN_SIDE

Size = tuple[int, int]  # height, width

SMALL = 64  # longest side in pixels of images that are trained unresized, by a network for small images
USUAL = 224  # side of larger images after resizing; torchvision's networks were trained at this size
MAX_RATIO = 20  # of the longer side to the shorter: resizing a longer image's shorter side to 256 makes it huge
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
