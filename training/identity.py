"""Which training a checkpoint belongs to."""

from dataclasses import asdict, fields
from operator import itemgetter
from pathlib import Path
from typing import Any

from fastai.learner import Learner

from config.pixels import PIXELS
from config.recipes import Recipe
from data.fingerprint import fingerprint_images
from runtime.checked_file import read_json
from runtime.errors import UserError, printable


def identity(learn: Learner) -> dict[str, Any]:
    """Describe a training for its checkpoint in plain values; `images` is None if items aren't files in `dls.path`."""
    dls = learn.dls
    try:
        images = fingerprint_images(dls)
    except (AttributeError, TypeError, ValueError):
        images = None
    own = vars(dls)  # `vars`: without a size, `dls.size` would look in the dataset
    size, resized = own.get('size'), own.get('resized')
    return {
        'images': images,
        'number of images': [len(dl.dataset) for dl in dls.loaders],
        'size of images': size and list(size),
        'pixels': own.get('pixels', PIXELS[0]) if resized else None,
        'classes': [str(name) for name in dls.vocab],
        'batch size': dls.train.bs,
        'seed': vars(dls.train).get('seed'),
        'recipe': asdict(learn.recipe),
    }


def refuse_other_training(state: Any, learn: Learner, mine: dict[str, Any], models: Path) -> None:
    """Raise UserError, which names the differences, if the checkpoint `state` isn't of the training `mine`.

    A checkpoint of an earlier version has no description. Then the weights' shapes must match, and the images must be
    those in the config.json beside the folder `models`, if there is one.
    """
    try:
        theirs = state['training'] if 'training' in state else {'images': _images_of_run(models.parent)}
        if theirs['images'] and mine['images']:
            mine = {**mine, 'images': fingerprint_images(learn.dls, like=theirs['images'])}
        differences = [*_differences(theirs, mine), *_other_weights(state['model'], learn.model.state_dict())]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as e:
        raise UserError(_refusal(models, "fit didn't write it")) from e
    if differences:
        raise UserError(_refusal(models, printable('; '.join(differences))))


def _refusal(models: Path, reason: str) -> str:
    way_out = "choose another folder (get_learner's path), or fit without resume, which replaces the checkpoint"
    return f'the checkpoint in {models} is not of this training: {reason}; {way_out}'


def _differences(theirs: dict[str, Any], mine: dict[str, Any]) -> list[str]:
    """The differences, in words; the number of epochs may differ, since a training may continue for more."""
    found = []
    if theirs['images'] and mine['images'] and theirs['images'] != mine['images']:
        found.append('other images, or another split')
    if theirs.get('classes', mine['classes']) != mine['classes']:
        found.append('other classes')
    for name in 'number of images', 'size of images', 'batch size', 'seed':
        if theirs.get(name, mine[name]) != mine[name]:
            found.append(f'{name} {theirs[name]}, here {mine[name]}')
    theirs_pixels = theirs.get('pixels', PIXELS[0])  # earlier checkpoints have none
    if mine['pixels'] and theirs_pixels not in (None, mine['pixels']):
        found.append(f"the images' pixels {theirs_pixels}, here {mine['pixels']} (get_dls has the argument pixels)")
    if 'recipe' in theirs:
        before, now = Recipe.from_dict(theirs['recipe']), Recipe.from_dict(mine['recipe'])
        for name in (field.name for field in fields(Recipe)):
            if name != 'epochs' and getattr(before, name) != getattr(now, name):
                found.append(f"the recipe's {name} {getattr(before, name)}, here {getattr(now, name)}")
    return found


def _other_weights(theirs: dict, mine: dict) -> list[str]:
    """The first weight that is missing in one network or has another shape, in words."""
    for name in [*mine, *theirs]:
        shapes = [tuple(weights[name].shape) if name in weights else 'missing' for weights in (theirs, mine)]
        if shapes[0] != shapes[1]:
            return [f'another network ({name}: {shapes[0]}, here {shapes[1]})']
    return []


def _images_of_run(run: Path) -> str | None:
    file = run / 'config.json'
    try:
        return read_json(file, 'config.json of a run', itemgetter('images')) if file.is_file() else None
    except UserError:
        return None
