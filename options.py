"""What is asked for: the options of the command line, or those that a run's config.json has kept."""

import json
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from errors import UserError
from recipes import RECIPES, Recipe, recipe_for

DEFAULTS = {
    'data': 'cifar10',
    'recipe': 'plateau',
    'epochs': None,  # the recipe's
    'bs': None,
    'lr': 'auto',
    'valid': 0.1,
    'fraction': 1.0,
    'seed': 42,
    'workers': None,
    'checkpoint_minutes': 5.0,
    'out': 'runs',
    'name': None,
    'skip_bad': False,
}
# Neither changes what comes out, so that a run may go on with others.
FREE = 'workers', 'checkpoint_minutes'


def settle(given: dict[str, Any], kept: dict[str, Any] | None = None) -> tuple[dict[str, Any], Recipe]:
    """All options, and the recipe by them; UserError, naming the option, for what can't be used.

    What is `given` counts most, then what a config.json has `kept` of an earlier run but its name, then the defaults.
    """
    options = {**DEFAULTS, **(kept['options'] if kept else {}), 'name': None, **given}
    if kept and options['recipe'] == kept['options']['recipe'] and options['data'] == kept['options']['data']:
        recipe = kept['recipe']
    else:
        recipe = recipe_for(options['data'], options['recipe'])
    sizes = {name: options[name] for name in ('epochs', 'bs') if options[name] is not None}
    recipe = replace(recipe, **sizes)
    _check_all(options, recipe)
    if options['data'] not in ('cifar10', 'digits'):
        options['data'] = str(Path(options['data']).expanduser().absolute())
    return options, recipe


def read_config(file: Path) -> dict[str, Any]:
    """A run's config.json, with its recipe as a Recipe; UserError where it isn't one."""
    try:
        config = json.loads(file.read_text(encoding='utf-8'))
        options, recipe = config['options'], Recipe.from_dict(config['recipe'])
        if unknown := set(options) ^ set(DEFAULTS):
            raise ValueError(f'options {sorted(unknown)}')
        return {**config, 'recipe': recipe}
    except (ValueError, TypeError, KeyError, AttributeError) as e:  # not JSON, or not of this shape
        raise UserError(f'{file} is no config.json of a run ({type(e).__name__}: {e})') from e


def refuse_conflicts(given: dict[str, Any], kept: dict[str, Any], run: Path) -> None:
    """UserError for an option that a run can't go on with, since it has another."""
    settled, _ = settle(given, kept)
    for name in given:
        theirs = kept['options'][name] if name not in ('epochs', 'bs') else getattr(kept['recipe'], name)
        if name not in FREE and settled[name] != theirs:
            raise UserError(f'--{_dashed(name)} {given[name]}: {run} has {theirs}; leave it out, or start a new run')


def loader_options(options: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The arguments of `get_dls`."""
    names = 'valid', 'fraction', 'seed', 'skip_bad'
    given = {name: options[name] for name in names}
    return {'path': options['data'], 'recipe': recipe, 'num_workers': options['workers'], **given}


def _check_all(options: dict[str, Any], recipe: Recipe) -> None:
    o = options
    _check(o, 'data', isinstance(o['data'], str), 'a name or a path')
    _check(o, 'recipe', o['recipe'] in RECIPES, f'one of {", ".join(RECIPES)}')
    _check(o, 'epochs', isinstance(recipe.epochs, int) and recipe.epochs >= 1, 'at least 1')
    _check(o, 'bs', isinstance(recipe.bs, int) and recipe.bs >= 2, 'at least 2, since BatchNorm needs more images')
    _check(o, 'lr', o['lr'] == 'auto' or _between(0, o['lr'], inf), 'a number above 0, or auto')
    _check(o, 'valid', o['valid'] == 'test' or _between(0, o['valid'], 1), 'between 0 and 1, or test')
    _check(o, 'fraction', o['fraction'] == 1 or _between(0, o['fraction'], 1), 'above 0, at most 1')
    _check(o, 'seed', isinstance(o['seed'], int) and 0 <= o['seed'] < 2**32, 'from 0 to 2**32 - 1')
    workers = o['workers']
    _check(o, 'workers', workers is None or (isinstance(workers, int) and workers >= 0), '0 or more')
    _check(o, 'checkpoint_minutes', _between(-1e-9, o['checkpoint_minutes'], inf), '0 or more')


def _between(low: float, value: Any, high: float) -> bool:
    return isinstance(value, int | float) and low < value < high


def _check(options: dict[str, Any], option: str, fine: bool, allowed: str) -> None:
    if not fine:
        raise UserError(f'--{_dashed(option)} {options[option]}: {allowed}')


def _dashed(option: str) -> str:
    return option.replace('_', '-')
