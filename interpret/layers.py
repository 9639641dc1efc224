"""Which of a network's layers Grad-CAM shows, if nobody says."""

from collections import Counter
from itertools import dropwhile

import torch
from torch import Tensor, nn

from interpret.hooks import explaining, hooked, original, plain

RESNET_STAGES = 'layer1', 'layer2', 'layer3', 'layer4'


def default_layers(model: nn.Module, x: Tensor) -> list[str]:
    """Names of a ResNet's four stages, or of the last layer of each resolution that `x` (N x C x H x W) passes through.

    Of nested layers the outermost counts: a whole block, not one of its parts or the first part of the next block.
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
        model(plain(x[[0, 0]]))  # two, to tell a batch from a table for all images, as Swin V2 has

    (H, W), chosen, area = x.shape[-2:], {}, x[0, 0].numel()
    for name in dropwhile(lambda name: not any(True for _ in modules[name].parameters()), sizes):  # x, only normalised
        h, w = size = sizes[name]
        # an adaptive pool has its head's size; what lost x's proportions is h x w x C, as transformers have it
        # and what is larger than one before is windows x C, as in MaxViT
        is_map = 1 < h * w <= area and abs(h - w * H / W) <= 3 and not isinstance(modules[name], nn.AdaptiveAvgPool2d)
        area = h * w if is_map else area
        if is_map and runs[name] == 1 and name.count('.') <= chosen.get(size, name).count('.'):
            chosen[size] = name
    if not chosen:
        raise ValueError(f'no layer of {type(model).__name__} has a map larger than 1x1 for {H}x{W} images')
    return list(chosen.values())
