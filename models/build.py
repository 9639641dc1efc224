"""Build a recipe's network: a SpeedNet, or a classifier of torchvision or timm, for given classes and an image size."""

import torch
from torch import nn
from torchvision.models import ResNet

from config.overrides import override
from config.recipes import Recipe
from data.sizes import SMALL, Size, format_size
from models.backbones import (
    NoWeights,
    check_arch,
    create,
    fetch_weights,
    first_line,
    load_pretrained,
    read_weights,
    smallest_size,
    with_statistics,
)
from models.resnet import add_dropout, set_last_stride, set_small_stem
from models.speednet import SPEEDNETS, SpeedNet
from runtime.errors import UserError


def with_network(recipe: Recipe, arch: str | None = None, pretrained: bool = False) -> Recipe:
    """Return `recipe` with this network, by `check_network`; UserError if the recipe is tuned for its own network."""
    changes = {'arch': arch or recipe.arch, 'pretrained': pretrained or recipe.pretrained}
    return check_network(override(recipe, **{name: o for name, o in changes.items() if o != getattr(recipe, name)}))


def check_network(recipe: Recipe) -> Recipe:
    """Return `recipe` with the mean, std and image size of its network's pretrained weights, if it uses them.

    If `finetune` can't get the weights, it trains from scratch, and a line says so. Raises UserError for an unknown
    network, and for a file of weights that can't be read.
    """
    if recipe.arch in SPEEDNETS:
        return recipe
    check_arch(recipe.arch)
    if not recipe.pretrained:
        return recipe
    if recipe.weights:
        read_weights(recipe.weights)
    elif recipe.schedule == 'finetune':
        try:
            fetch_weights(recipe.arch)
        except NoWeights as e:
            print(f'{e}: training from scratch, which takes thousands of images; --weights FILE takes a copy')
            recipe = override(recipe, pretrained=False)
    return with_statistics(recipe)


def get_model(recipe: Recipe, n_out: int, size: Size, load: bool = True) -> nn.Module:
    """Build the recipe's network for `n_out` classes and images of `size` (height, width).

    For small images, a ResNet without pretrained weights gets `set_small_stem`. `load=False` skips the pretrained
    weights: the caller loads a run's own. Raises UserError if the weights can't be loaded, if the network can't take
    images of that size, or if the recipe has dropout and the network isn't a ResNet.
    """
    if recipe.arch in SPEEDNETS:
        return SpeedNet(n_out, SPEEDNETS[recipe.arch])
    check_arch(recipe.arch)
    model = create(recipe.arch, n_out, recipe.pretrained)
    if recipe.pretrained and load:
        load_pretrained(model, recipe.arch, recipe.weights)
    if isinstance(model, ResNet):
        if max(size) <= SMALL and not recipe.pretrained:
            set_small_stem(model)
        set_last_stride(model, recipe.last_stride)
        add_dropout(model, recipe.dropout)
    elif recipe.dropout:
        raise UserError(f'--arch {recipe.arch}: the recipe adds dropout to a ResNet; choose a ResNet or another recipe')
    _check_size(model, recipe.arch, size)
    return model


def _check_size(model: nn.Module, arch: str, size: Size) -> None:
    """Raise UserError if the network fails on an image of `size`; the message has torchvision's minimum size."""
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, *size))
    except (RuntimeError, AssertionError, ValueError) as e:
        # a ViT takes exactly one size, which may differ from its weights' smallest
        least = getattr(model, 'image_size', smallest_size(arch))
        why = f"can't take images of {format_size(size)} ({first_line(e)})"
        raise UserError(f'--arch {arch} {why}: use --size {least}') from e
    model.train()
