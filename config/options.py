"""The options of a run, each with default, range and help text; `config.overrides` has those of its recipe."""

from dataclasses import asdict, dataclass, fields, replace
from os.path import expanduser
from pathlib import Path
from typing import Any

from config.overrides import OVERRIDES, RECIPE_NAME, override
from config.pixels import PIXELS, refuse_unknown
from config.recipes import PLATEAU, Recipe, recipe_for
from config.values import Choice, Flag, Number, Text, option
from runtime.errors import UserError

MIN_SIDE, MAX_SIDE = 16, 4096  # pixels. The network halves a small image three times, and Grad-CAM needs 2x2
TRACKERS = 'none', 'tensorboard', 'wandb'
BUNDLED = 'cifar10', 'digits'  # what `--data` may name besides a path
# These options don't affect the result, so `--resume` may change them. (Images are compared by their content.)
RESUME_MAY_CHANGE = 'data', 'workers', 'checkpoint_minutes', 'keep_checkpoints', 'track'


@dataclass(frozen=True)
class Config:
    """The options of a run. An invalid value raises UserError, which names the option."""

    recipe: Recipe = PLATEAU
    pixels: str = PIXELS[-1]  # not an option: an earlier run keeps its own
    data: str = option(
        'cifar10', Text('a name or a path'), 'data', 'cifar10, digits, or images in a folder, .tgz, .zip or CSV'
    )
    size: int | None = option(
        None, Number(int, MIN_SIDE, MAX_SIDE, f'from {MIN_SIDE} to {MAX_SIDE} pixels'),
        'data', 'resize images to squares of this many pixels a side', '224; small images of one size keep it',
    )  # fmt: skip
    valid: float | str | None = option(
        None, Number(float, 0, 1 - 1e-9, 'at least 0 and below 1, or test', word='test'),
        'data', 'fraction of the training images that validates, or test for the test set', "the recipe's",
    )  # fmt: skip
    fraction: float = option(1.0, Number(float, 1e-9, 1, 'above 0, at most 1'), 'data', 'share of the training images')
    workers: int | None = option(
        None, Number(int, 0, 10**4, '0 or more'), 'data', 'processes that load images', 'as many as help'
    )
    skip_bad: bool = option(False, Flag(), 'data', 'leave out files that cannot be used')
    seed: int = option(42, Number(int, 0, 2**32 - 1, 'from 0 to 2**32 - 1'), 'training', 'seed of all random numbers')
    compile: bool = option(False, Flag(), 'training', 'train with torch.compile')
    out: str = option('runs', Text('a folder'), 'run', 'folder of all runs')
    name: str | None = option(None, Text('the name of a folder'), 'run', "name of this run's folder", 'a time stamp')
    checkpoint_minutes: float = option(5.0, Number(float, 0, 1e9, '0 or more'), 'run', 'minutes between checkpoints')
    keep_checkpoints: bool = option(False, Flag(), 'run', 'keep the checkpoints of a finished run')
    track: str = option('none', Choice(TRACKERS), 'run', 'log the run to this tracker, too')

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.metadata and not (value is None and field.default is None):
                check(field.name, field.metadata['values'], value)
        refuse_unknown(self.pixels)

    def as_json(self) -> dict[str, Any]:
        """The part of a config.json that `from_json` reads."""
        options = asdict(self)
        recipe = options.pop('recipe')
        return {'options': {**options, 'recipe': self.recipe.name}, 'recipe': recipe}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> 'Config':
        """Read what `as_json` of this or an earlier version wrote; TypeError, KeyError or ValueError if invalid."""
        options = {'pixels': PIXELS[0], **saved['options']}
        check('recipe', RECIPE_NAME.metadata['values'], options['recipe'])
        recipe = Recipe.from_dict({**saved['recipe'], 'name': options.pop('recipe')})
        # earlier versions kept these among the options, and in the recipe too, but for the learning rate
        earlier = {name: options.pop(name, None) for name in OVERRIDES}
        for name, value in earlier.items():
            if value is not None:
                check(name, OVERRIDES[name].metadata['values'], value)
        if earlier['lr'] not in (None, 'auto'):
            recipe = override(recipe, lr=earlier['lr'])
        return cls(recipe, **options)


def check(name: str, values: Any, value: Any) -> None:
    """Raise UserError if the option `name` can't have this value."""
    if not values.allows(value):
        raise UserError(f'--{name.replace("_", "-")} {value}: {values.allowed}')


def resolve_config(given: dict[str, Any], saved: Config | None = None) -> Config:
    """Return a new run's Config: `given` options, else those of `saved`, else the defaults; UserError if invalid."""
    for name, field in {'recipe': RECIPE_NAME, **OVERRIDES}.items():
        if name in given:
            check(name, field.metadata['values'], given[name])
    given = dict(given)
    values = {name: given.pop(name) for name in OVERRIDES if name in given}
    base = saved or Config()
    data, name = given.get('data', base.data), given.pop('recipe', base.recipe.name)
    recipe, before = recipe_for(data, name), recipe_for(base.data, base.recipe.name)
    if recipe == before:
        recipe = base.recipe  # the recipe that this name meant when the config was saved
    else:
        named = replace(base, recipe=before)
        kept = {o: _value(base, o) for o in OVERRIDES if o not in values and _value(base, o) != _value(named, o)}
        recipe = override(recipe, **kept)
    named = recipe_for(data, name)
    if values.get('lr') == 'auto':
        recipe = replace(recipe, lr=named.lr, lr_rule=named.lr_rule)
        del values['lr']
    if recipe.pretrained and values.get('pretrained') is False:
        # instead of those of the pretrained weights
        recipe = replace(recipe, mean=named.mean, std=named.std, side=named.side)
    if not recipe.pretrained and (values.get('pretrained') or values.get('weights')):
        recipe = replace(recipe, frozen=named.frozen)  # instead of that from scratch
    if isinstance(data, str) and data and data not in BUNDLED:
        given['data'] = str(Path(expanduser(data)).absolute())
    # not where a saved run went: its config.json may be a stranger's
    fresh = {'name': None, 'out': Config.out, 'track': Config.track}
    return replace(base, recipe=override(recipe, **values), **{**fresh, **given})


def resume_config(given: dict[str, Any], saved: Config, run: Path) -> Config:
    """Return the `saved` Config of `run` with the `given` options; UserError for one that would affect the result."""
    if given.get('recipe') == 'auto':
        raise UserError(f'--recipe auto: {run} has {saved.recipe.name}; leave it out, or start a new run')
    for name, value in given.items():
        own_place = name in ('name', 'out') and value == getattr(saved, name)
        same = own_place or resolve_config({name: value}, saved) == resolve_config({}, saved)
        if name not in RESUME_MAY_CHANGE and not same:
            theirs = _value(saved, name)
            theirs = 'the default' if theirs is None else theirs
            value, theirs = (f'{str(o)[:60]}...' if len(str(o)) > 60 else o for o in (value, theirs))
            raise UserError(f'--{name.replace("_", "-")} {value}: {run} has {theirs}; leave it out, or start a new run')
    return replace(saved, **{name: value for name, value in given.items() if name in RESUME_MAY_CHANGE})


def _value(config: Config, name: str) -> Any:
    """The value of an option as it would be given on the command line."""
    recipe = config.recipe
    if name == 'recipe':
        return recipe.name
    if name == 'lr' and recipe.lr_rule != 'none':
        return 'auto'
    return getattr(recipe if name in OVERRIDES else config, name)
