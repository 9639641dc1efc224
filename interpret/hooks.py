"""A model that is looked into: in eval mode, with hooks, and afterwards as it was."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn


def original(model: nn.Module) -> nn.Module:
    """The module that `torch.compile` wrapped: it has the plain names."""
    return getattr(model, '_orig_mod', model)


def plain(x: Tensor) -> Tensor:
    """A copy that autograd can use: no subclass, no graph, no inference tensor, and `x` safe from in-place layers."""
    return x.detach().clone().as_subclass(Tensor)


@contextmanager
def explaining(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Eval mode, gradients, no autocast and no compiled code (it skips hooks); then all as it was before."""
    modes = {module: module.training for module in model.modules()}
    no_autocast = torch.autocast(x.device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), no_autocast, torch.compiler.set_stance('force_eager'):
        try:
            for module in modes:
                module.training = False  # not `eval()`, which a model may override to do more
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
