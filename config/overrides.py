"""The options that replace a value of the recipe."""

from dataclasses import replace
from os.path import expanduser
from pathlib import Path
from typing import Any

from config.recipes import RECIPES, Recipe
from config.values import Choice, Flag, Number, Text, option
from runtime.errors import UserError

OVERRIDES = {
    'arch': option(
        None, Text('the name of an architecture'),
        'recipe', "a torchvision classifier's name, or timm:NAME for one of timm's", "the recipe's",
    ),
    'pretrained': option(False, Flag(), 'recipe', 'begin with ImageNet weights', "the recipe's"),
    'weights': option(
        '', Text('a file'), 'recipe', "begin with the weights in this .safetensors or .pth file", 'the ImageNet weights'
    ),
    'epochs': option(None, Number(int, 1, 10**6, 'at least 1'), 'recipe', 'passes over the images', "the recipe's"),
    'bs': option(
        None, Number(int, 2, 10**6, 'at least 2, since BatchNorm needs more images'),
        'recipe', 'images in a batch', "the recipe's",
    ),
    'lr': option(
        'auto', Number(float, 1e-30, 1e30, 'a number above 0, or auto', word='auto'),
        'recipe', "learning rate; auto is a sweep's, or the recipe's own",
    ),
    'augment': option(
        None, Text('recipe, light, strong or a file'),
        'recipe', "recipe, light, strong, or a file of Albumentations' A.save", 'recipe',
    ),
    'early_stop': option(
        None, Number(int, 0, 10**6, '0 or more'),
        'recipe', 'stop after this many epochs without a lower validation loss', '0, never',
    ),
    'mixup': option(
        None, Number(float, 0, 10, 'from 0 to 10'),
        'recipe', 'mix images and their losses, in proportions of Beta(N, N)', '0, not',
    ),
    'weight_classes': option(
        False, Flag(), 'recipe', 'weight the loss, of validation too, by the inverse of the number of images of a class'
    ),
}  # fmt: skip
RECIPE_NAME = option('auto', Choice(['auto', *RECIPES]), 'recipe', 'how to train; auto: by images and hardware')


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
