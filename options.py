"""What is asked for: the options of the command line, or those that a run's config.json has kept."""

from dataclasses import replace
from os.path import expanduser
from pathlib import Path
from typing import Any

from architectures import check_arch, with_network
from callbacks.tracking import TOOLS
from checked_file import read_json
from data.sizes import MIN_SIDE
from errors import UserError
from recipes import RECIPES, Recipe, recipe_for

MAX_SIDE = 4096  # pixels
DEFAULTS = {
    'data': 'cifar10',
    'recipe': 'plateau',
    'arch': None,  # the recipe's
    'pretrained': False,
    'size': None,  # what suits the images
    'epochs': None,  # the recipe's
    'bs': None,
    'lr': 'auto',
    'valid': None,  # the data's own validation set, else the recipe's
    'fraction': 1.0,
    'seed': 42,
    'workers': None,
    'compile': False,
    'checkpoint_minutes': 5.0,
    'keep_checkpoints': False,
    'out': 'runs',
    'name': None,
    'track': 'none',
    'skip_bad': False,
}
# What changes nothing of what comes out, so that a run may go on with others: images are compared by their content.
FREE = 'data', 'workers', 'checkpoint_minutes', 'keep_checkpoints', 'track'


def settle(given: dict[str, Any], kept: dict[str, Any] | None = None) -> tuple[dict[str, Any], Recipe]:
    """All options, and the recipe by them; UserError, naming the option, for what can't be used.

    What is `given` counts most, then what a config.json has `kept` of an earlier run but its name, then the defaults.
    """
    options = {**DEFAULTS, **(kept['options'] if kept else {}), 'name': None, **given}
    _check_all(options)
    recipe = recipe_for(options['data'], options['recipe'])
    if kept and recipe == recipe_for(kept['options']['data'], kept['options']['recipe']):
        recipe = kept['recipe']  # what that name meant then
    recipe = replace(recipe, **{name: options[name] for name in ('epochs', 'bs') if options[name] is not None})
    recipe = with_network(recipe, options['arch'], options['pretrained'])
    if options['data'] not in ('cifar10', 'digits'):
        options['data'] = str(Path(expanduser(options['data'])).absolute())
    return options, recipe


def read_config(file: Path) -> dict[str, Any]:
    """A run's config.json, with its recipe as a Recipe, and `size` as (height, width); UserError where it isn't one.

    `file` may be the run's folder.
    """
    file = file / 'config.json' if file.is_dir() else file
    return read_json(file, 'config.json of a run', _config)


def _config(config: dict[str, Any]) -> dict[str, Any]:
    options = {**DEFAULTS, **config['options']}  # there may be new ones since
    if unknown := set(options) - set(DEFAULTS):
        raise ValueError(f'options {sorted(unknown)}')
    _check_all(options)
    images, surroundings = config['images'], dict(config['surroundings'])
    if not isinstance(images, str) or not all(isinstance(o, str | None) for o in surroundings.values()):
        raise ValueError('images and surroundings are text')
    recipe = Recipe.from_dict(config['recipe'])
    model = _model(*(config[name] for name in ('classes', 'size', 'resized')))
    return {'options': options, 'recipe': recipe, 'images': images, 'surroundings': surroundings, **model}


def _model(classes: Any, size: Any, resized: Any) -> dict[str, Any]:
    """What a trained model takes and says; ValueError where it can't be that."""
    if not (isinstance(classes, list) and all(isinstance(o, str) for o in classes)):
        raise ValueError('classes are names')
    if not len({*classes}) == len(classes) > 1:
        raise ValueError('classes are two or more, each another')
    if not (isinstance(size, list) and len(size) == 2 and all(_is(int, 1, o, MAX_SIDE) for o in size)):
        raise ValueError(f'size {size}')
    if not isinstance(resized, bool):
        raise ValueError(f'resized {resized}')
    return {'classes': classes, 'size': tuple(size), 'resized': resized}


def refuse_conflicts(given: dict[str, Any], kept: dict[str, Any], run: Path) -> None:
    """UserError for an option that a run can't go on with, since it has another."""
    settled, _ = settle(given, kept)
    for name in given:
        theirs = kept['options'][name]
        if theirs is None:
            theirs = getattr(kept['recipe'], name, None)
        if name not in FREE and settled[name] != theirs:
            theirs = 'the default' if theirs is None else theirs  # of what depends on the images
            raise UserError(f'--{_dashed(name)} {given[name]}: {run} has {theirs}; leave it out, or start a new run')


def loader_options(options: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The arguments of `get_dls`."""
    names = 'valid', 'fraction', 'seed', 'skip_bad', 'size'
    given = {name: options[name] for name in names}
    return {'path': options['data'], 'recipe': recipe, 'num_workers': options['workers'], **given}


def _check_all(options: dict[str, Any]) -> None:
    o = options
    _check(o, 'data', isinstance(o['data'], str) and o['data'] != '' and '\0' not in o['data'], 'a name or a path')
    _check(o, 'recipe', o['recipe'] in list(RECIPES), f'one of {", ".join(RECIPES)}')
    _check(o, 'arch', o['arch'] is None or isinstance(o['arch'], str), 'the name of an architecture')
    if o['arch']:
        check_arch(o['arch'])
    _check(o, 'pretrained', isinstance(o['pretrained'], bool), 'true or false')
    size = o['size'] is None or _is(int, MIN_SIDE, o['size'], MAX_SIDE)
    _check(o, 'size', size, f'from {MIN_SIDE} to {MAX_SIDE} pixels')
    _check(o, 'epochs', o['epochs'] is None or _is(int, 1, o['epochs'], 1e9), 'at least 1')
    _check(o, 'bs', o['bs'] is None or _is(int, 2, o['bs'], 1e9), 'at least 2, since BatchNorm needs more images')
    _check(o, 'lr', o['lr'] == 'auto' or _is(float, 1e-30, o['lr'], 1e30), 'a number above 0, or auto')
    valid = o['valid'] in (None, 'test') or _is(float, 0, o['valid'], 1 - 1e-9)
    _check(o, 'valid', valid, 'at least 0 and below 1, or test')
    _check(o, 'fraction', _is(float, 1e-9, o['fraction'], 1), 'above 0, at most 1')
    _check(o, 'seed', _is(int, 0, o['seed'], 2**32 - 1), 'from 0 to 2**32 - 1')
    _check(o, 'workers', o['workers'] is None or _is(int, 0, o['workers'], 1e4), '0 or more')
    _check(o, 'compile', isinstance(o['compile'], bool), 'true or false')
    _check(o, 'checkpoint_minutes', _is(float, 0, o['checkpoint_minutes'], 1e9), '0 or more')
    _check(o, 'keep_checkpoints', isinstance(o['keep_checkpoints'], bool), 'true or false')
    _check(o, 'out', isinstance(o['out'], str) and o['out'] != '' and '\0' not in o['out'], 'a folder')
    _check(o, 'name', o['name'] is None or isinstance(o['name'], str), 'the name of a folder')
    _check(o, 'track', o['track'] in TOOLS, f'one of {", ".join(TOOLS)}')
    _check(o, 'skip_bad', isinstance(o['skip_bad'], bool), 'true or false')


def _is(kind: type, low: float, value: Any, high: float) -> bool:
    """Whether `value` is a number of that kind, and not True or False, from `low` to `high`."""
    return type(value) in (int, kind) and low <= value <= high


def _check(options: dict[str, Any], option: str, fine: bool, allowed: str) -> None:
    if not fine:
        raise UserError(f'--{_dashed(option)} {options[option]}: {allowed}')


def _dashed(option: str) -> str:
    return option.replace('_', '-')
