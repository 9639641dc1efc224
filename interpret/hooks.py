"""Inspect a model with hooks in eval mode, and restore it afterwards."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import dropwhile

import torch
from torch import Tensor, nn


class NoMaps(ValueError):
    """The model, or a layer of it, has no Grad-CAM map."""


def original(model: nn.Module) -> nn.Module:
    """The module inside a `torch.compile` wrapper, whose layer names have no prefix."""
    return getattr(model, '_orig_mod', model)


def plain(x: Tensor) -> Tensor:
    """A plain copy of `x` that autograd can use and in-place layers may overwrite."""
    return x.detach().clone().as_subclass(Tensor)


@contextmanager
def explaining(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Use eval mode and gradients, no autocast and no compiled code (it skips hooks); restore all on exit."""
    modes = {module: module.training for module in model.modules()}
    no_autocast = torch.autocast(x.device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), no_autocast, torch.compiler.set_stance('force_eager'):
        try:
            for module in modes:
                module.training = False  # not `eval()`: a model may override it
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


@contextmanager
def hooked(model: nn.Module, names: Iterable[str], hook) -> Iterator[None]:
    """Call `hook(name, module, args, out)` after each of the named layers."""
    with ExitStack() as hooks:
        for name in names:
            hooks.enter_context(model.get_submodule(name).register_forward_hook(partial(hook, name)))
        yield


RESNET_STAGES = 'layer1', 'layer2', 'layer3', 'layer4'


def default_layers(model: nn.Module, x: Tensor) -> list[str]:
    """Names of a ResNet's four stages; else of the last layer at each resolution that `x` (N x C x H x W) goes through.

    Of nested layers, the outermost is chosen, such as a whole block. Raises NoMaps if no layer has a map.
    """
    model = original(model)
    if all(hasattr(model, stage) for stage in RESNET_STAGES):
        return list(RESNET_STAGES)
    runs, sizes = Counter(), {}

    def note(name, module, args, out):
        runs[name] += 1
        if isinstance(out, Tensor) and out.ndim == 4 and len(out) == 2:
            sizes[name] = tuple(out.shape[-2:])

    modules = dict(model.named_modules())
    with explaining(model, x), torch.no_grad(), hooked(model, modules, note):
        model(plain(x[[0, 0]]))  # two images: Swin V2's tables have a first dimension of 1

    (H, W), chosen, area = x.shape[-2:], {}, x[0, 0].numel()
    for name in dropwhile(lambda name: not any(True for _ in modules[name].parameters()), sizes):  # skip normalisation
        h, w = size = sizes[name]
        # not maps: an adaptive pool, sized for the head; h x w x C outputs of transformers, with other proportions
        # than x; windows x C outputs of MaxViT, larger than an earlier map
        is_map = 1 < h * w <= area and abs(h - w * H / W) <= 3 and not isinstance(modules[name], nn.AdaptiveAvgPool2d)
        area = h * w if is_map else area
        if is_map and runs[name] == 1 and name.count('.') <= chosen.get(size, name).count('.'):
            chosen[size] = name
    if not chosen:
        raise NoMaps(f'no layer of {type(model).__name__} has a map larger than 1x1 for {H}x{W} images')
    return list(chosen.values())
