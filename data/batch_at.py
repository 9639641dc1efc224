"""Chosen items of a loader."""

from fastai.data.core import TfmdDL
from fastai.torch_core import to_device


def batch_at(dl: TfmdDL, idxs: list[int]) -> tuple:
    """The batch of the items `idxs` of `dl`'s dataset, through all its transforms, without workers or a shuffle."""
    dl.before_iter()
    b = dl.do_batch([dl.do_item(i) for i in idxs])
    return dl.after_batch(b if dl.device is None else to_device(b, dl.device))
