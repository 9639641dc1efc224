"""Training by compiled code: `--compile`."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fastai.torch_core import default_device
from torch import nn

from errors import UserError


@contextmanager
def compiled(model: nn.Module) -> Iterator[None]:
    """Run `model` as `torch.compile` makes it, and afterwards as it is written, so that hooks see all of its layers.

    Each new shape of a batch is compiled when it comes, which takes up to a minute on a CPU.
    """
    model.forward = torch.compile(model.forward, dynamic=False)
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
        way_out = 'leave it out, or install a C++ compiler, such as g++'
        raise UserError(f'--compile: torch.compile fails on this machine ({reason}): {way_out}') from e
