"""Training by compiled code: `--compile`."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fastai.torch_core import default_device
from torch import nn

from errors import UserError


@contextmanager
def compiled(model: nn.Module) -> Iterator[None]:
    """Train `model` as `torch.compile` makes it; in evaluation and afterwards it runs as it is written.

    So hooks see all of its layers. Each new shape of a batch is compiled when it comes, up to a minute on a CPU.
    """
    eager, fast = model.forward, torch.compile(model.forward, dynamic=False)
    model.forward = lambda x: (fast if model.training else eager)(x)
    try:
        yield
    finally:
        del model.forward


def refuse_uncompilable() -> None:
    """UserError where `torch.compile` doesn't work, as without a C++ compiler."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(1, device=default_device()))
    except RuntimeError as e:
        reason = str(e).strip().splitlines()[0]
        way_out = 'leave it out, or if it comes from a config.json, make it false there'
        raise UserError(f'--compile: torch.compile fails on this machine ({reason}): {way_out}') from e
