"""torchvision's and timm's classifiers by name, and their pretrained weights."""

import pickle
import socket
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import getproxies

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor, nn
from torch.hub import load_state_dict_from_url
from torchvision import models

from config.recipe import TIMM, Recipe
from runtime.errors import UserError, printable

BROKEN = RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError
COUNT = 'num_batches_tracked'


class NoWeights(UserError):
    """A network's pretrained weights are neither cached nor can they be downloaded."""


def check_arch(arch: str) -> None:
    """Raise UserError, which suggests similar names, if no classifier of torchvision or timm is called `arch`."""
    if arch.startswith(TIMM):
        library, known, names = 'timm', timm.is_model, [TIMM + name for name in timm.list_models()]
    else:
        names = models.list_models(module=models)
        library, known = 'torchvision', names.__contains__
    if not known(arch.removeprefix(TIMM)):
        close = get_close_matches(arch.lower(), names)
        hint = f'; did you mean {" or ".join(close)}?' if close else ', it has resnet18, convnext_tiny and others'
        raise UserError(f'--arch {arch}: {library} has no classifier of that name{hint}')
    if library == 'timm':
        try:
            timm.get_pretrained_cfg(arch.removeprefix(TIMM))
        except RuntimeError as e:  # a tag that the network doesn't have
            raise UserError(f'--arch {arch}: {first_line(e)}') from e


def with_statistics(recipe: Recipe) -> Recipe:
    """Return `recipe` with the mean, std and image size of its network's pretrained weights."""
    if recipe.arch.startswith(TIMM):
        preset = timm.get_pretrained_cfg(recipe.arch.removeprefix(TIMM))
        side = preset.input_size[-1]
    else:
        preset = models.get_model_weights(recipe.arch).DEFAULT.transforms()
        side = preset.crop_size[0]
    return replace(recipe, mean=tuple(preset.mean), std=tuple(preset.std), side=side)


def smallest_size(arch: str) -> int:
    """The side of the smallest images, in pixels, that the network's weights are made for."""
    if arch.startswith(TIMM):
        preset = timm.get_pretrained_cfg(arch.removeprefix(TIMM))
        return (preset.min_input_size or preset.input_size)[-1]
    return models.get_model_weights(arch).DEFAULT.meta['min_size'][0]


def create(arch: str, n_out: int, pretrained: bool = False) -> nn.Module:
    """Create the network `arch` with `n_out` outputs and random weights; `pretrained`: it will get pretrained ones."""
    if arch.startswith(TIMM):
        return timm.create_model(arch.removeprefix(TIMM), num_classes=n_out)
    options = {}
    if arch in ('googlenet', 'inception_v3'):  # so that they return one tensor, and print no warning
        options = {'aux_logits': False, 'transform_input': pretrained, 'init_weights': True}
    return models.get_model(arch, num_classes=n_out, **options)


def head_of(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of the last layer, which is replaced for other classes: a Linear, or SqueezeNet's convolution."""
    if hasattr(model, 'get_classifier'):  # timm; a distilled network has two
        heads = model.get_classifier()
        heads = heads if isinstance(heads, tuple) else (heads,)
    else:
        heads = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1:]
    return [p for head in heads for p in head.parameters()]


def load_pretrained(model: nn.Module, arch: str, weights: str = '') -> None:
    """Give the network `arch` pretrained weights, and its last layer zeros.

    The weights are those of the file `weights`, else the library's own. Nothing in a file is run. Raises UserError if
    they can't be loaded, or are another network's.
    """
    for p in [] if arch.startswith('squeezenet') else head_of(model):  # there a ReLU follows: no gradient from zero
        nn.init.zeros_(p)  # timm's EfficientNets begin with outputs of up to 8, which training has to undo first
    if not weights:
        model.load_state_dict(_without_head(fetch_weights(arch), model), strict=False)
        return
    theirs, mine = read_weights(weights), model.state_dict()
    if {name for name in mine if not name.endswith(COUNT)} - theirs.keys():
        theirs = _renamed(theirs, mine, weights)
    for name, tensor in _without_head(mine, model).items():
        if theirs[name].shape != tensor.shape:
            shapes = ' and '.join('x'.join(map(str, o.shape)) for o in (theirs[name], tensor))
            raise UserError(f'--weights {weights}: not the weights of {arch}: {name} is {shapes}')
    model.load_state_dict(_without_head(theirs, model), strict=False)


def _without_head(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The `tensors` that `model` has, without its last layer's and BatchNorm's batch counts, which files may lack."""
    head = {*map(id, head_of(model))}
    names = {name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) not in head}
    return {name: tensor for name, tensor in tensors.items() if name in names and not name.endswith(COUNT)}


def _renamed(theirs: dict[str, Tensor], mine: dict[str, Tensor], file: str) -> dict[str, Tensor]:
    """Rename the tensors `theirs` to the names of `mine`, in order; UserError if they can't correspond."""
    names = [name for name in mine if not name.endswith(COUNT)]
    tensors = [tensor for name, tensor in theirs.items() if not name.endswith(COUNT)]
    missing = next(name for name in mine if name not in theirs)
    if file.endswith('.safetensors'):  # it is sorted by name, so the order says nothing
        raise UserError(f'--weights {file}: it has no {missing}')
    if len(names) != len(tensors):
        raise UserError(
            f'--weights {file}: it has no {missing}, and {len(tensors)} tensors where {len(names)} are needed'
        )
    print(f'{printable(file)} has other names: its {len(tensors)} tensors are taken in their order')
    return dict(zip(names, tensors, strict=True))


def read_weights(file: str) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors or .pth file; nothing in it is run. Raises UserError if it can't be read."""
    try:
        tensors = timm.models.load_state_dict(file, weights_only=True)
        if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            raise ValueError('it has other things than tensors')
    except OSError as e:
        raise UserError(f'--weights {file}: {e.strerror or "no such file"}') from e
    except Exception as e:  # torch, zipfile and safetensors raise many types for a broken file
        raise UserError(f'--weights {file}: no weights can be read from it ({first_line(e)})') from e
    return tensors


def fetch_weights(arch: str) -> dict[str, Tensor]:
    """Return the library's weights, cached or downloaded; NoWeights if neither is possible, UserError if damaged."""
    return _fetch_timm(arch) if arch.startswith(TIMM) else _fetch_torchvision(arch)


def _fetch_timm(arch: str) -> dict[str, Tensor]:
    name = arch.removeprefix(TIMM)
    preset = timm.get_pretrained_cfg(name)
    if not (preset.hf_hub_id or preset.url):
        raise NoWeights(f'{arch} has no published weights')
    cached = try_to_load_from_cache(preset.hf_hub_id or name, 'model.safetensors')
    try:
        if not cached and not getproxies():
            socket.getaddrinfo('huggingface.co', 443)  # fails at once; timm tries again for 47 s
        overlay = {'file': cached} if isinstance(cached, str) else {}
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay).state_dict()
    except OSError as e:
        raise NoWeights(f"the weights of {arch} are not in Hugging Face's cache, and can't be downloaded ({e})") from e
    except BROKEN as e:
        raise UserError(f'the cached weights of {arch} are damaged ({first_line(e)}): delete {cached}') from e


def _fetch_torchvision(arch: str) -> dict[str, Tensor]:
    from runtime.progress import shows_bars  # here: it needs fastai, the rest of this file doesn't

    weights = models.get_model_weights(arch).DEFAULT
    file = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(weights.url).path).name)
    try:
        # first as tensors only: torchvision would run the code in a cached pickle
        load_state_dict_from_url(
            weights.url, map_location='cpu', progress=shows_bars(), check_hash=True, weights_only=True
        )
        return models.get_model(arch, weights=weights).state_dict()
    except OSError as e:
        raise NoWeights(
            f"--pretrained: {file} is missing, and {weights.url} can't be downloaded ({e}): copy it there, or train "
            'without --pretrained'
        ) from e
    except BROKEN as e:
        why = f'{file} does not hold the weights of {arch} ({first_line(e)})'
        raise UserError(f'--pretrained: {why}: delete it to download it again') from e


def first_line(e: Exception) -> str:
    """The first line of the exception's message, else its type."""
    return (str(e).strip().splitlines() or [type(e).__name__])[0]
