"""How many images each class has, and whether that makes the accuracy say little."""

from collections import Counter
from pathlib import Path

MOST = 2  # times the smallest class that the largest may be without a word


def count_classes(files: list[Path], classes: list[str]) -> dict[str, int]:
    """How many of `files` are of each of `classes`, by their folder's name."""
    counts = Counter(file.parent.name for file in files)
    return {name: counts[name] for name in classes}


def imbalance(counts: dict[str, int]) -> str | None:
    """One line about classes of which the largest is more than twice the smallest; None if there's nothing to say."""
    large, small = max(counts, key=counts.get), min(counts, key=counts.get)
    if counts[large] <= MOST * counts[small]:
        return None
    return (
        f'the classes are unbalanced: {counts[large]:,} training images of {large}, {counts[small]:,} of {small}; the '
        'accuracy says more about the large ones, per_class.csv about each'
    )
