"""Training with `torch.compile`: `--compile`."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fastai.torch_core import default_device
from torch import nn

from runtime.errors import UserError


@contextmanager
def compiled(model: nn.Module) -> Iterator[None]:
    """Compile `model` for training; in evaluation and afterwards it runs eagerly, so that hooks see all of its layers.

    Each new batch shape is compiled on its first use, which takes up to a minute on a CPU.
    """
    eager, fast = model.forward, torch.compile(model.forward, dynamic=False)
    model.forward = lambda x: (fast if model.training else eager)(x)
    try:
        yield
    finally:
        del model.forward


def refuse_uncompilable() -> None:
    """Raise UserError if `torch.compile` doesn't work, for example without a C++ compiler."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(1, device=default_device()))
    except RuntimeError as e:
        reason = str(e).strip().splitlines()[0]
        way_out = 'train without it (with --config: --no-compile; to resume: set it to false in config.json)'
        raise UserError(f'--compile: torch.compile fails on this machine ({reason}): {way_out}') from e
