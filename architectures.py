"""Which network is trained: any of torchvision's classifiers, with a stem and a head for the images at hand."""

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

from data.sizes import SMALL, Size, told
from errors import UserError
from models import SPEEDNETS, SpeedNet, add_dropout, set_last_stride, set_small_stem
from recipes import Recipe


def check_arch(arch: str) -> None:
    """UserError, with the names that it may be meant for, if `arch` is none of torchvision's classifiers."""
    names = models.list_models(module=models)
    if arch not in names:
        close = get_close_matches(arch.lower(), names)
        raise UserError(
            f'--arch {arch}: torchvision has no classifier of that name'
            + (f'; did you mean {" or ".join(close)}?' if close else ', it has resnet18, convnext_tiny and others')
        )


def with_network(recipe: Recipe, arch: str | None = None, pretrained: bool = False) -> Recipe:
    """`recipe` with the network `arch`; if `pretrained` from torchvision's default weights, normalising as they do.

    Raises UserError for a recipe that's made for a network of its own.
    """
    if (arch or pretrained) and recipe.arch in SPEEDNETS:
        raise UserError(
            f'--{"arch" if arch else "pretrained"}: this recipe is made for its own small network, take another'
        )
    recipe = replace(recipe, arch=arch or recipe.arch)
    if not pretrained:
        return recipe
    check_arch(recipe.arch)
    preset = models.get_model_weights(recipe.arch).DEFAULT.transforms()
    return replace(recipe, pretrained=True, mean=tuple(preset.mean), std=tuple(preset.std))


def get_model(recipe: Recipe, n_out: int, size: Size, load: bool = True) -> nn.Module:
    """The recipe's network for `n_out` classes and images of `size` (height, width).

    A ResNet that isn't pretrained gets a stem for small images. With `load=False` pretrained weights are left out, for
    a run's own to take their place. Raises UserError where the weights can't be had, the network can't take images of
    that size, or isn't one that the recipe can change.
    """
    if recipe.arch in SPEEDNETS:
        return SpeedNet(n_out, SPEEDNETS[recipe.arch])
    check_arch(recipe.arch)
    if recipe.pretrained and load:
        model = _load_pretrained(recipe.arch)
        _replace_head(model, n_out)
    else:
        model = models.get_model(recipe.arch, num_classes=n_out, **_options(recipe.arch, recipe.pretrained))
    if isinstance(model, ResNet):
        if max(size) <= SMALL and not recipe.pretrained:
            set_small_stem(model)
        set_last_stride(model, recipe.last_stride)
        add_dropout(model, recipe.dropout)
    elif recipe.dropout:
        raise UserError(f'--arch {recipe.arch}: the recipe has dropout after each ReLU of a ResNet, take another one')
    _check_size(model, recipe.arch, size)
    return model


def _load_pretrained(arch: str) -> nn.Module:
    """Torchvision's own network, with its default weights from torch's cache or the network."""
    from bars import shows_bars  # here, as all the rest needs PyTorch and torchvision only

    weights = models.get_model_weights(arch).DEFAULT
    file = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(weights.url).path).name)
    try:
        # as tensors first: torchvision itself would run what a pickle in the cache holds
        load_state_dict_from_url(
            weights.url, map_location='cpu', progress=shows_bars(), check_hash=True, weights_only=True
        )
        model = models.get_model(arch, weights=weights)
    except OSError as e:
        raise UserError(
            f"--pretrained: {file} is not there, and {weights.url} can't be downloaded ({e}): get it to that place, or "
            'train without'
        ) from e
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as e:
        why = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise UserError(f'--pretrained: {file} does not hold the weights of {arch} ({why}): delete it') from e
    if arch == 'inception_v3':  # GoogLeNet has left out its own
        model.aux_logits, model.AuxLogits = False, None
    return model


def _options(arch: str, pretrained: bool) -> dict[str, bool]:
    """What makes the two Inceptions put out one tensor, take images normalised like others, and warn of nothing."""
    if arch not in ('googlenet', 'inception_v3'):
        return {}
    return {'aux_logits': False, 'transform_input': pretrained, 'init_weights': True}


def _replace_head(model: nn.Module, n_out: int) -> None:
    """Give the last layer that has weights `n_out` outputs: a Linear, or SqueezeNet's convolution."""
    name, head = [o for o in model.named_modules() if isinstance(o[1], nn.Linear | nn.Conv2d)][-1]
    if isinstance(head, nn.Linear):
        new = nn.Linear(head.in_features, n_out, head.bias is not None)
    else:
        new = nn.Conv2d(head.in_channels, n_out, head.kernel_size)
    parent, _, child = name.rpartition('.')
    setattr(model.get_submodule(parent), child, new)


def _check_size(model: nn.Module, arch: str, size: Size) -> None:
    """UserError if the network fails on an image of `size`, with a size that torchvision says it takes."""
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, *size))
    except (RuntimeError, AssertionError, ValueError) as e:
        why = (str(e).strip().splitlines() or [type(e).__name__])[0]
        # a ViT has one size, which its weights have another of
        least = getattr(model, 'image_size', models.get_model_weights(arch).DEFAULT.meta['min_size'][0])
        raise UserError(f"--arch {arch} can't take images of {told(size)} ({why}): it takes --size {least}") from e
    model.train()
