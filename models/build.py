"""Build a recipe's network: one of torchvision's classifiers or a SpeedNet, for given classes and an image size."""

import pickle
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import nn
from torch.hub import load_state_dict_from_url
from torchvision import models
from torchvision.models import ResNet

from config.options import override
from config.recipes import Recipe
from data.sizes import SMALL, Size, format_size
from models.resnet import add_dropout, set_last_stride, set_small_stem
from models.speednet import SPEEDNETS, SpeedNet
from runtime.errors import UserError


def check_arch(arch: str) -> None:
    """Raise UserError, which suggests similar names, if torchvision has no classifier called `arch`."""
    names = models.list_models(module=models)
    if arch not in names:
        close = get_close_matches(arch.lower(), names)
        hint = f'; did you mean {" or ".join(close)}?' if close else ', it has resnet18, convnext_tiny and others'
        raise UserError(f'--arch {arch}: torchvision has no classifier of that name{hint}')


def with_network(recipe: Recipe, arch: str | None = None, pretrained: bool = False) -> Recipe:
    """Return `recipe` with this network, by `check_network`; UserError if the recipe is tuned for its own network."""
    changes = {'arch': arch or recipe.arch, 'pretrained': pretrained or recipe.pretrained}
    return check_network(override(recipe, **{name: o for name, o in changes.items() if o != getattr(recipe, name)}))


def check_network(recipe: Recipe) -> Recipe:
    """Return `recipe` with its pretrained weights' mean and std, if any; UserError if torchvision lacks the network."""
    if recipe.arch in SPEEDNETS:
        return recipe
    check_arch(recipe.arch)
    if not recipe.pretrained:
        return recipe
    preset = models.get_model_weights(recipe.arch).DEFAULT.transforms()
    return replace(recipe, mean=tuple(preset.mean), std=tuple(preset.std))


def get_model(recipe: Recipe, n_out: int, size: Size, load: bool = True) -> nn.Module:
    """Build the recipe's network for `n_out` classes and images of `size` (height, width).

    For small images, a ResNet without pretrained weights gets `set_small_stem`. `load=False` skips the pretrained
    weights: the caller loads a run's own. Raises UserError if the weights can't be loaded, if the network can't take
    images of that size, or if the recipe has dropout and the network isn't a ResNet.
    """
    if recipe.arch in SPEEDNETS:
        return SpeedNet(n_out, SPEEDNETS[recipe.arch])
    check_arch(recipe.arch)
    if recipe.pretrained and load:
        model = _load_pretrained(recipe.arch)
        _replace_head(model, n_out)
    else:
        options = {}
        if recipe.arch in ('googlenet', 'inception_v3'):  # so that they return one tensor, and print no warning
            options = {'aux_logits': False, 'transform_input': recipe.pretrained, 'init_weights': True}
        model = models.get_model(recipe.arch, num_classes=n_out, **options)
    if isinstance(model, ResNet):
        if max(size) <= SMALL and not recipe.pretrained:
            set_small_stem(model)
        set_last_stride(model, recipe.last_stride)
        add_dropout(model, recipe.dropout)
    elif recipe.dropout:
        raise UserError(f'--arch {recipe.arch}: the recipe adds dropout to a ResNet; choose a ResNet or another recipe')
    _check_size(model, recipe.arch, size)
    return model


def _load_pretrained(arch: str) -> nn.Module:
    from runtime.progress import shows_bars  # here: it needs fastai, the rest of this file doesn't

    weights = models.get_model_weights(arch).DEFAULT
    file = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(weights.url).path).name)
    try:
        # first as tensors only: torchvision would run the code in a cached pickle
        load_state_dict_from_url(
            weights.url, map_location='cpu', progress=shows_bars(), check_hash=True, weights_only=True
        )
        model = models.get_model(arch, weights=weights)
    except OSError as e:
        raise UserError(
            f"--pretrained: {file} is missing, and {weights.url} can't be downloaded ({e}): copy it there, or train "
            'without --pretrained'
        ) from e
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as e:
        why = (str(e).strip().splitlines() or [type(e).__name__])[0]
        way_out = 'delete it to download it again'
        raise UserError(f'--pretrained: {file} does not hold the weights of {arch} ({why}): {way_out}') from e
    if arch == 'inception_v3':  # torchvision removes GoogLeNet's auxiliary heads itself
        model.aux_logits, model.AuxLogits = False, None
    return model


def _replace_head(model: nn.Module, n_out: int) -> None:
    """Give the last layer `n_out` outputs: a Linear layer, or SqueezeNet's convolution."""
    name, head = [o for o in model.named_modules() if isinstance(o[1], nn.Linear | nn.Conv2d)][-1]
    if isinstance(head, nn.Linear):
        new = nn.Linear(head.in_features, n_out, head.bias is not None)
    else:
        new = nn.Conv2d(head.in_channels, n_out, head.kernel_size)
    parent, _, child = name.rpartition('.')
    setattr(model.get_submodule(parent), child, new)


def _check_size(model: nn.Module, arch: str, size: Size) -> None:
    """Raise UserError if the network fails on an image of `size`; the message has torchvision's minimum size."""
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, *size))
    except (RuntimeError, AssertionError, ValueError) as e:
        why = (str(e).strip().splitlines() or [type(e).__name__])[0]
        # a ViT takes exactly one size, which may differ from its weights' `min_size`
        least = getattr(model, 'image_size', models.get_model_weights(arch).DEFAULT.meta['min_size'][0])
        raise UserError(f"--arch {arch} can't take images of {format_size(size)} ({why}): use --size {least}") from e
    model.train()
