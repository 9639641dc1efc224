"""Stratified splits of a list of files."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from sklearn.model_selection import train_test_split

from runtime.errors import UserError


def split_off(
    files: list[Path],
    label: Callable[[Path], str],
    n_out: int,
    seed: int,
    what: str,
    of_every_class: bool = True,
) -> tuple[list[Path], list[Path]]:
    """Split off `n_out` files, stratified by class, the `label` of a file; both parts keep the order of `files`.

    Raises UserError, beginning with `what`, if either part lacks a class. Without `of_every_class` the part split off
    may lack one: fewer files than classes are drawn from all files without stratifying.
    """
    labels = [label(file) for file in files]
    counts = Counter(labels)
    least, what = min(counts, key=counts.get), f'{what} of {len(files)} images'
    if n_out < len(counts) and of_every_class:
        raise UserError(f'{what} is {n_out}, fewer than the {len(counts)} classes: add images, or choose a larger part')
    if len(files) - n_out < len(counts):
        raise UserError(f'{what} leaves a class without images: choose another part, or add images')
    if not n_out:
        return files, []
    stratify = n_out >= len(counts)
    if stratify and counts[least] < 2:
        raise UserError(f'{what}: {least} has only one image, which cannot be in both parts: add some')
    kept, out = train_test_split(
        range(len(files)), test_size=n_out, random_state=seed, stratify=labels if stratify else None
    )
    if missing := {*counts} - {labels[i] for i in kept}:
        raise UserError(f'{what} leaves {min(missing)} without images: choose another part, or add images')
    return [files[i] for i in sorted(kept)], [files[i] for i in sorted(out)]
