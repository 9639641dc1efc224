"""Grad-CAM: where in an image the evidence for a class lies, for every layer and the whole batch at once."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import dropwhile

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RESNET_STAGES = 'layer1', 'layer2', 'layer3', 'layer4'


def grad_cam(
    model: nn.Module,
    x: Tensor,
    targets: int | Tensor | None = None,
    layers: Iterable[str | nn.Module] | None = None,
    raw: bool = False,
) -> dict[str, Tensor]:
    """Grad-CAM maps of the images `x` (N x C x H x W), keyed by layer name, in the order of `layers`.

    `targets` are class indices: None for the predicted classes, one for all images, N, or N x K for K classes an image
    (one forward, K backwards). `layers` are names or modules; None is `default_layers`. A map is N x H x W in [0, 1],
    0 throughout if it's constant, or with `raw` N x h x w as it comes; N x K x ... for N x K targets; always float32.

    The maps explain the model in eval mode and full precision, whatever mode or autocast it's called in, and leave it
    as it was. Raises ValueError, by name, for layers without a map (1x1, not N x C x h x w, ...) and for bad targets.

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
    with explaining(model, x), torch.no_grad(), _hooked(model, modules, note):
        model(_plain(x[[0, 0]]))  # two, to tell a batch from a table for all images, as Swin V2 has

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


def original(model: nn.Module) -> nn.Module:
    """The module that `torch.compile` wrapped: it has the plain names."""
    return getattr(model, '_orig_mod', model)


def _plain(x: Tensor) -> Tensor:
    """A copy that autograd can use: no subclass, no graph, no inference tensor, and `x` safe from in-place layers."""
    return x.detach().clone().as_subclass(Tensor)


@contextmanager
def explaining(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Eval mode, gradients, full precision and no compiled code (it skips hooks); then all as it was before."""
    modes = {module: module.training for module in model.modules()}
    full_precision = torch.autocast(x.device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), full_precision, torch.compiler.set_stance('force_eager'):
        try:
            for module in modes:
                module.training = False  # not `eval()`, which a model may override to do more
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


@contextmanager
def _hooked(model: nn.Module, names: Iterable[str], hook) -> Iterator[None]:
    """Call `hook(name, module, args, out)` after each of the named layers."""
    with ExitStack() as hooks:
        for name in names:
            hooks.enter_context(model.get_submodule(name).register_forward_hook(partial(hook, name)))
        yield


def _names(model: nn.Module, layers: Iterable[str | nn.Module]) -> list[str]:
    """The qualified names of `layers`."""
    modules = dict(model.named_modules(remove_duplicate=False))
    names = {module: name for name, module in reversed(modules.items())}  # the first, if a module has several
    found = {}
    for layer in [layers] if isinstance(layers, str | nn.Module) else layers:  # a Sequential, too, is one layer
        name = layer if isinstance(layer, str) else names.get(original(layer))
        if name not in modules:
            label = repr(layer) if isinstance(layer, str) else f'of type {type(layer).__name__}'
            raise ValueError(f'layer {label} is not in the model: take one of model.named_modules()')
        found[name] = True
    return list(found)


def _forward(model: nn.Module, x: Tensor, names: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits (N x classes) and what each layer put out (N x C x h x w), joined by one graph."""
    acts = {}

    def keep(name, module, args, out):
        if not isinstance(out, Tensor) or out.ndim != 4:
            raise ValueError(f'layer {name!r} puts out {_shape(out)}, not N x C x h x w: choose another')
        if out.shape[-2:] == (1, 1):
            why = f'is 1x1 for {x.shape[-2]}x{x.shape[-1]} images, so it has no map'
            raise ValueError(f'layer {name!r} {why}: choose an earlier layer, larger images or fewer strides')
        if name in acts:
            raise ValueError(f'layer {name!r} runs several times in one forward pass: choose the block around it')
        acts[name] = out.clone().requires_grad_()  # a copy, as a skip connection may use `out` as well;
        return acts[name].clone()  # and another, as the next layer may work in place

    with _hooked(model, names, keep):
        logits = model(_plain(x))
    if idle := [name for name in names if name not in acts]:
        raise ValueError(f'layers that the forward pass does not run: {idle}')
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        raise ValueError(f'the model puts out {_shape(logits)} for {len(x)} images: Grad-CAM needs N x classes logits')
    return logits, {name: acts[name] for name in names}


def _classes(targets: int | Tensor | None, logits: Tensor) -> Tensor:
    """`targets` as class indices, N or N x K."""
    if targets is None:
        return logits.argmax(1)
    classes = torch.as_tensor(targets, device=logits.device).as_subclass(Tensor)
    n, n_out = logits.shape
    if classes.ndim == 0:
        classes = classes.expand(n)
    if classes.is_floating_point() or classes.dtype == torch.bool:
        raise ValueError(f'targets are class indices, not {classes.dtype}')
    if classes.ndim > 2 or len(classes) != n or classes.numel() == 0:
        raise ValueError(f'targets are one class, N or N x K, not {_shape(classes)} for {n} images')
    if classes.min() < 0 or classes.max() >= n_out:
        raise ValueError(f'targets are from 0 to {n_out - 1}, not from {classes.min()} to {classes.max()}')
    return classes.long()


def _weights(logits: Tensor, acts: dict[str, Tensor], classes: Tensor) -> list[Tensor]:
    """Gradients of the logits of `classes` (N), averaged over each layer's positions: N x C a layer."""
    grads = [None] * len(acts)
    if logits.requires_grad:
        one_hot = F.one_hot(classes, logits.shape[1]).to(logits.dtype)
        grads = torch.autograd.grad(logits, list(acts.values()), one_hot, retain_graph=True, allow_unused=True)
    if unused := [name for name, grad in zip(acts, grads, strict=True) if grad is None]:
        raise ValueError(f'layers that the logits do not depend on: {unused}')
    return [grad.float().mean((-2, -1)) for grad in grads]


def rescale(cam: Tensor) -> Tensor:
    """Each map's minimum to 0, its maximum to 1; one that is constant but for rounding to 0, not to amplified noise."""
    low, high = cam.amin((-2, -1), keepdim=True), cam.amax((-2, -1), keepdim=True)
    return torch.where(high - low <= 1e-5 * high, 0, (cam - low) / (high - low))


def _shape(out: object) -> str:
    """The shape of what should have been a tensor of another."""
    return str(tuple(out.shape)) if isinstance(out, Tensor) else type(out).__name__
