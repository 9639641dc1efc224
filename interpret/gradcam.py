"""Grad-CAM: where an image has evidence for a class, for several layers and a whole batch at once."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpret.hooks import NoMaps, default_layers, explaining, hooked, original, plain


def grad_cam(
    model: nn.Module,
    x: Tensor,
    targets: int | Tensor | None = None,
    layers: Iterable[str | nn.Module] | None = None,
    raw: bool = False,
) -> dict[str, Tensor]:
    """Compute Grad-CAM maps of the images `x` (N x C x H x W), keyed by layer name, in the order of `layers`.

    `targets` are class indices: None for the predicted classes, one for all images, N, or N x K for K classes per image
    (one forward pass, K backward passes). `layers` are names or modules; None means `default_layers`. Maps are float32,
    N x H x W in [0, 1]; a constant map is 0. `raw` maps are N x h x w, unscaled. N x K targets give N x K x ... maps.

    The model runs in eval mode without autocast and is left as it was; convolutions on a GPU may use TF32, PyTorch's
    default. Raises NoMaps for layers without a map (1x1, not N x C x h x w, ...), by name, and ValueError for bad
    targets and for layers that aren't in the model.

    Selvaraju et al. 2017, Grad-CAM: https://arxiv.org/abs/1610.02391
    """
    model = original(model)
    names = default_layers(model, x) if layers is None else _names(model, layers)
    maps = {}
    with explaining(model, x):
        logits, acts = _forward(model, x, names)
        classes = _classes(targets, logits)
        weights = [_weights(logits, acts, chosen) for chosen in classes.view(len(x), -1).T]
        for (name, act), *by_class in zip(acts.items(), *weights, strict=True):
            cam = torch.einsum('nkc,nchw->nkhw', torch.stack(by_class, 1), act.detach().float()).relu()
            if not raw:
                cam = rescale(F.interpolate(cam, x.shape[-2:], mode='bilinear', align_corners=False))
            maps[name] = cam.view(classes.shape + cam.shape[-2:])
    return maps


def _names(model: nn.Module, layers: Iterable[str | nn.Module]) -> list[str]:
    modules = dict(model.named_modules(remove_duplicate=False))
    names = {module: name for name, module in reversed(modules.items())}  # the first of several names
    found = {}
    for layer in [layers] if isinstance(layers, str | nn.Module) else layers:  # a Sequential is one layer
        name = layer if isinstance(layer, str) else names.get(original(layer))
        if name not in modules:
            label = repr(layer) if isinstance(layer, str) else f'of type {type(layer).__name__}'
            raise ValueError(f'layer {label} is not in the model: take one of model.named_modules()')
        found[name] = True
    return list(found)


def _forward(model: nn.Module, x: Tensor, names: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits (N x classes) and each layer's output (N x C x h x w), in one autograd graph."""
    acts = {}

    def keep(name, module, args, out):
        if not isinstance(out, Tensor) or out.ndim != 4:
            raise NoMaps(f'layer {name!r} returns {_shape(out)}, not N x C x h x w: choose another')
        if out.shape[-2:] == (1, 1):
            why = f'is 1x1 for {x.shape[-2]}x{x.shape[-1]} images, so it has no map'
            raise NoMaps(f'layer {name!r} {why}: choose an earlier layer, larger images or fewer strides')
        if name in acts:
            raise NoMaps(f'layer {name!r} runs several times in one forward pass: choose the block around it')
        acts[name] = out.clone().requires_grad_()  # a copy: a skip connection may use `out` too
        return acts[name].clone()  # another copy: the next layer may work in place

    with hooked(model, names, keep):
        logits = model(plain(x))
    if idle := [name for name in names if name not in acts]:
        raise NoMaps(f'the forward pass does not run these layers: {idle}')
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        raise NoMaps(f'the model returns {_shape(logits)} for {len(x)} images: Grad-CAM needs N x classes logits')
    return logits, {name: acts[name] for name in names}


def _classes(targets: int | Tensor | None, logits: Tensor) -> Tensor:
    if targets is None:
        return logits.argmax(1)
    classes = torch.as_tensor(targets, device=logits.device).as_subclass(Tensor)
    n, n_out = logits.shape
    if classes.ndim == 0:
        classes = classes.expand(n)
    if classes.is_floating_point() or classes.dtype == torch.bool:
        raise ValueError(f'targets must be class indices, not {classes.dtype}')
    if classes.ndim > 2 or len(classes) != n or classes.numel() == 0:
        raise ValueError(f'targets must be one class, N or N x K, not {_shape(classes)} for {n} images')
    if classes.min() < 0 or classes.max() >= n_out:
        raise ValueError(f'targets must be from 0 to {n_out - 1}, not from {classes.min()} to {classes.max()}')
    return classes.long()


def _weights(logits: Tensor, acts: dict[str, Tensor], classes: Tensor) -> list[Tensor]:
    """The gradients of the logits of `classes` (N), averaged over each layer's positions: N x C per layer."""
    grads = [None] * len(acts)
    if logits.requires_grad:
        one_hot = F.one_hot(classes, logits.shape[1]).to(logits.dtype)
        grads = torch.autograd.grad(logits, list(acts.values()), one_hot, retain_graph=True, allow_unused=True)
    if unused := [name for name, grad in zip(acts, grads, strict=True) if grad is None]:
        raise NoMaps(f'the logits do not depend on these layers: {unused}')
    return [grad.float().mean((-2, -1)) for grad in grads]


def rescale(cam: Tensor) -> Tensor:
    """Scale each map to [0, 1]; a map that is constant up to rounding becomes 0 instead of amplified noise."""
    low, high = cam.amin((-2, -1), keepdim=True), cam.amax((-2, -1), keepdim=True)
    return torch.where(high - low <= 1e-5 * high, 0, (cam - low) / (high - low))


def _shape(out: object) -> str:
    """The shape of a tensor, or the type of anything else, for a message."""
    return str(tuple(out.shape)) if isinstance(out, Tensor) else type(out).__name__
