"""The options of a run, each with default, range and help text: those of `Config`, and OVERRIDES of its recipe."""

from dataclasses import asdict, dataclass, field, fields, replace
from os.path import expanduser
from pathlib import Path
from typing import Any

from config.pixels import PIXELS, refuse_unknown
from config.recipes import PLATEAU, RECIPES, Recipe, recipe_for
from config.values import Choice, Flag, Number, Text
from runtime.errors import UserError

MIN_SIDE, MAX_SIDE = 16, 4096  # pixels. The network halves a small image three times, and Grad-CAM needs 2x2
TRACKERS = 'none', 'tensorboard', 'wandb'
BUNDLED = 'cifar10', 'digits'  # what `--data` may name besides a path
# These options don't affect the result, so `--resume` may change them. (Images are compared by their content.)
RESUME_MAY_CHANGE = 'data', 'workers', 'checkpoint_minutes', 'keep_checkpoints', 'track'


def _option(default: Any, values: Any, group: str, help: str, shown: str | None = None) -> Any:
    """A dataclass field with metadata for the command line; `shown` describes a default that isn't a fixed value."""
    shown = default if shown is None else shown
    return field(default=default, metadata={'values': values, 'group': group, 'help': help, 'shown': shown})


@dataclass(frozen=True)
class Config:
    """The options of a run. An invalid value raises UserError, which names the option."""

    recipe: Recipe = PLATEAU
    pixels: str = PIXELS[-1]  # not an option: an earlier run keeps its own
    data: str = _option(
        'cifar10', Text('a name or a path'), 'data', 'cifar10, digits, or images in a folder, .tgz, .zip or CSV'
    )
    size: int | None = _option(
        None, Number(int, MIN_SIDE, MAX_SIDE, f'from {MIN_SIDE} to {MAX_SIDE} pixels'),
        'data', 'resize images to squares of this many pixels a side', '224; small images of one size keep it',
    )  # fmt: skip
    valid: float | str | None = _option(
        None, Number(float, 0, 1 - 1e-9, 'at least 0 and below 1, or test', word='test'),
        'data', 'fraction of the training images that validates, or test for the test set', "the recipe's",
    )  # fmt: skip
    fraction: float = _option(1.0, Number(float, 1e-9, 1, 'above 0, at most 1'), 'data', 'share of the training images')
    workers: int | None = _option(
        None, Number(int, 0, 10**4, '0 or more'), 'data', 'processes that load images', 'as many as help'
    )
    skip_bad: bool = _option(False, Flag(), 'data', 'leave out files that cannot be used')
    seed: int = _option(42, Number(int, 0, 2**32 - 1, 'from 0 to 2**32 - 1'), 'training', 'seed of all random numbers')
    compile: bool = _option(False, Flag(), 'training', 'train with torch.compile')
    out: str = _option('runs', Text('a folder'), 'run', 'folder of all runs')
    name: str | None = _option(None, Text('the name of a folder'), 'run', "name of this run's folder", 'a time stamp')
    checkpoint_minutes: float = _option(5.0, Number(float, 0, 1e9, '0 or more'), 'run', 'minutes between checkpoints')
    keep_checkpoints: bool = _option(False, Flag(), 'run', 'keep the checkpoints of a finished run')
    track: str = _option('none', Choice(TRACKERS), 'run', 'log the run to this tracker, too')

    def __post_init__(self):
        for option in fields(self):
            value = getattr(self, option.name)
            if option.metadata and not (value is None and option.default is None):
                check(option.name, option.metadata['values'], value)
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


# Options that replace a value of the recipe.
OVERRIDES = {
    'arch': _option(
        None, Text('the name of an architecture'),
        'recipe', "a torchvision classifier's name, or timm:NAME for one of timm's", "the recipe's",
    ),
    'pretrained': _option(False, Flag(), 'recipe', 'begin with ImageNet weights', "the recipe's"),
    'weights': _option(
        '', Text('a file'), 'recipe', "begin with the weights in this .safetensors or .pth file", 'the ImageNet weights'
    ),
    'epochs': _option(None, Number(int, 1, 10**6, 'at least 1'), 'recipe', 'passes over the images', "the recipe's"),
    'bs': _option(
        None, Number(int, 2, 10**6, 'at least 2, since BatchNorm needs more images'),
        'recipe', 'images in a batch', "the recipe's",
    ),
    'lr': _option(
        'auto', Number(float, 1e-30, 1e30, 'a number above 0, or auto', word='auto'),
        'recipe', "learning rate; auto is a sweep's, or the recipe's own",
    ),
    'augment': _option(
        None, Text('recipe, light, strong or a file'),
        'recipe', "recipe, light, strong, or a file of Albumentations' A.save", 'recipe',
    ),
    'early_stop': _option(
        None, Number(int, 0, 10**6, '0 or more'),
        'recipe', 'stop after this many epochs without a lower validation loss', '0, never',
    ),
    'mixup': _option(
        None, Number(float, 0, 10, 'from 0 to 10'),
        'recipe', 'mix images and their losses, in proportions of Beta(N, N)', '0, not',
    ),
    'weight_classes': _option(
        False, Flag(), 'recipe', 'weight the loss, of validation too, by the inverse of the number of images of a class'
    ),
}  # fmt: skip
RECIPE_NAME = _option('auto', Choice(['auto', *RECIPES]), 'recipe', 'how to train; auto: by images and hardware')


def check(name: str, values: Any, value: Any) -> None:
    """Raise UserError if the option `name` can't have this value."""
    if not values.allows(value):
        raise UserError(f'--{name.replace("_", "-")} {value}: {values.allowed}')


def override(recipe: Recipe, **values: Any) -> Recipe:
    """Return `recipe` with `values`.

    `lr` turns the sweep off, `weights` turns `pretrained` on, `pretrained=False` drops `weights` and `frozen`. Raises
    UserError for another network in a SpeedNet recipe, and for `weights` with `pretrained=False`.
    """
    network = 'arch', 'pretrained', 'weights'
    if recipe.arch.startswith('speednet') and (named := [o for o in network if values.get(o)]):
        raise UserError(f'--{named[0]}: this recipe is made for its own small network, take another')
    if values.get('weights'):
        values['weights'] = str(Path(expanduser(values['weights'])).absolute())
        if not values.setdefault('pretrained', True):
            raise UserError('--weights goes without --no-pretrained')
    elif values.get('pretrained') is False:
        values |= {'weights': '', 'frozen': 0}
    if 'lr' in values:
        values['lr_rule'] = 'none'
    return replace(recipe, **values)


def resolve_config(given: dict[str, Any], saved: Config | None = None) -> Config:
    """Return a new run's Config: `given` options, else those of `saved`, else the defaults; UserError if invalid."""
    for name, option in {'recipe': RECIPE_NAME, **OVERRIDES}.items():
        if name in given:
            check(name, option.metadata['values'], given[name])
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
