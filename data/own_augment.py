"""Augmentation in place of the recipe's: the user's Albumentations transforms, or ready ones by name."""

import json
import random
import warnings
from collections.abc import Callable, Sequence
from os.path import expanduser
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import yaml

from runtime.checked_file import INVALID, read_file
from runtime.errors import UserError, printable

RECIPE = 'recipe'  # the name of the recipe's own augmentation
MOST = 10_000  # values in a file: aliases in YAML can repeat a value without end
DRAWS = 8  # calls of the transforms, to see which size they return

# Chains, and the modules of transforms that need only one image: others read files, or need masks or boxes.
CHAINS = A.Compose, A.Sequential, A.OneOf, A.SomeOf, A.RandomOrder, A.OneOrOther
MODULES = 'blur', 'crops', 'dropout', 'geometric', 'pixel'


def _light() -> A.Compose:
    return A.Compose([A.HorizontalFlip(p=0.5), A.ColorJitter((0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (0, 0), p=0.8)])


def _strong() -> A.Compose:
    """SimCLR's colours at half its strength (Chen et al. 2020, arXiv 2002.05709, A), small rotations, blur, a hole."""
    return A.Compose([
        A.HorizontalFlip(p=0.5),
        A.Affine(rotate=(-15, 15), shear=(-8, 8), border_mode=cv2.BORDER_REFLECT_101, p=0.5),
        A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1), p=0.8),
        A.ToGray(p=0.1),
        A.GaussianBlur(p=0.2),
        A.CoarseDropout((1, 1), (0.1, 0.4), (0.1, 0.4), fill=0, p=0.5),
    ])  # fmt: skip


READY: dict[str, Callable[[], A.Compose]] = {'light': _light, 'strong': _strong}


def read_augment(name: str) -> str:
    """Return the value of `Recipe.augment` for a name (recipe, light or strong) or a file that `A.save` wrote.

    The file is JSON, or YAML if it is called .yaml or .yml. UserError if it can't be used; it can run no code.
    """
    if name == RECIPE or name in READY:
        return name
    file = Path(expanduser(name))
    if not file.is_file():
        names = ', '.join([RECIPE, *READY])
        raise UserError(f'--augment {printable(name)}: there is no such file, nor is it one of {names}')
    parse = _from_yaml if file.suffix.lower() in ('.yaml', '.yml') else json.loads
    way_out = "write it with Albumentations' A.save, without Normalize and ToTensorV2, which are added"
    return as_text(read_file(file, 'file of Albumentations transforms', lambda text: _build(parse(text)), way_out))


def load_augment(text: str) -> A.Compose | None:
    """Return the transforms of `Recipe.augment`, None for the recipe's own; UserError if it is invalid."""
    if text == RECIPE:
        return None
    if text in READY:
        return READY[text]()
    try:
        return _build(json.loads(text))
    except INVALID as e:
        reason = f'{type(e).__name__}: {_short(e)}'
        raise UserError(f"the recipe's augment can't be used ({reason})") from e


def as_text(augment: A.Compose) -> str:
    """Return `augment` as the value of `Recipe.augment`; UserError if Albumentations can't save it."""
    try:
        return json.dumps(A.to_dict(augment), sort_keys=True)
    except (NotImplementedError, TypeError, ValueError) as e:
        raise UserError(f"augment: Albumentations can't save these transforms ({e}): use others") from e


def _from_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise ValueError(str(e)) from e


def _build(saved: dict[str, Any]) -> A.Compose:
    """Build transforms from what `A.to_dict` wrote; one of INVALID if that is impossible."""
    _refuse_large(saved)
    _refuse_others(saved['transform'])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', UserWarning)  # of arguments that are ignored
            augment = A.from_dict(saved)
    except UserWarning as e:
        raise ValueError(str(e)) from e
    return augment if isinstance(augment, A.Compose) else A.Compose([augment])


def _refuse_large(saved: Any) -> None:
    left, values = MOST, [saved]
    while values:
        value = values.pop()
        values += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        left -= 1
        if left < len(values):
            raise ValueError(f'more than {MOST:,} values')


def _refuse_others(node: dict[str, Any]) -> None:
    """Raise ValueError unless `node` and those inside are Albumentations' transforms of one image."""
    name = node['__class_fullname__']
    kind = getattr(A, name, None)
    if kind in (A.Normalize, A.ToTensorV2):
        raise ValueError(f'{name} is added to the transforms: leave it out')
    if kind in CHAINS:
        for inside in node['transforms']:
            _refuse_others(inside)
    elif not isinstance(kind, type) or kind.__module__.split('.')[:2] != ['albumentations', 'augmentations']:
        raise ValueError(f"{name} is not one of Albumentations' transforms")
    elif kind.__module__.split('.')[2] not in MODULES:
        raise ValueError(f'{name} needs more than one image to transform')


def fit_augment(augment: A.Compose, size: tuple[int, int], crop: Sequence[A.BasicTransform]) -> list:
    """Return the transforms of `augment`, after those of `crop` if there are any.

    With `crop` images may have any size, and it turns them into `size` (height, width); it is left out if `augment`
    does so itself. Without `crop` images have `size`. UserError if the result isn't an 8-bit RGB image of `size`.
    """
    h, w = size
    whole = augment.transforms if augment.p == 1 else [augment]
    shapes = (2 * h + 1, 3 * w), (3 * h, 2 * w + 1), (h // 2 + 1, w // 2)
    if crop and all(_result(augment, shape) == size for shape in shapes):
        return [*whole]
    if (result := _result(augment, size)) != size:
        other = result if isinstance(result, str) else '{}x{}'.format(*result)
        raise UserError(f'augment: the transforms turn an image of {h}x{w} pixels (height x width) into {other}')
    return [*crop, *whole]


def _result(augment: A.Compose, shape: tuple[int, int]) -> tuple[int, int] | str:
    """The size of the images that `augment` makes of images of `shape`, or in words why they can't be used."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    sizes = set()
    for draw in range(DRAWS):
        augment.set_random_state(np.random.default_rng(draw), random.Random(draw))
        try:
            out = augment(image=image)['image']
        except Exception as e:  # as many types as there are transforms
            return f'an error ({type(e).__name__}: {_short(e)})'
        if not isinstance(out, np.ndarray) or out.dtype != np.uint8 or out.ndim != 3 or out.shape[2] != 3:
            return 'other than 8-bit RGB: leave out Normalize and ToTensorV2, which are added'
        sizes.add(out.shape[:2])
    return sizes.pop() if len(sizes) == 1 else 'images of several sizes'


def _short(e: Exception) -> str:
    return ' '.join(str(e).split())[:200]
