"""Splitting files off a data set, each class in proportion."""

from pathlib import Path

from fastai.data.transforms import parent_label
from sklearn.model_selection import train_test_split

from errors import UserError


def split_off(files: list[Path], n_out: int, seed: int, what: str) -> tuple[list[Path], list[Path]]:
    """Split `n_out` files off, stratified by class (the folder's name); both parts keep the order of `files`.

    Raises UserError, which begins with `what`, where that leaves a class without any.
    """
    labels = [parent_label(f) for f in files]
    try:
        kept, out = train_test_split(range(len(files)), test_size=n_out, random_state=seed, stratify=labels)
    except ValueError as e:
        raise UserError(f'{what} of {len(files)} images leaves a class without any: {e}') from e
    if missing := {*labels} - {labels[i] for i in kept}:
        raise UserError(f'{what} of {len(files)} images leaves {min(missing)} without any: choose more')
    return [files[i] for i in sorted(kept)], [files[i] for i in sorted(out)]
