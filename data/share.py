"""A rank's share of the batches, where several processes train together."""

import torch
from fastai.distributed import DistributedDL
from fastai.torch_core import to_detach
from fastcore.basics import chunked

from data.seeded import SeededDL


class ShareDL(DistributedDL):
    """Of each batch of `dl` the images of this rank: the shares of all ranks together are the batches of `dl`.

    fastai's own cuts the epoch, not each batch, and evens it out with images that then count twice. Here shares are
    even in training; in validation some ranks have an image less in the last batch, or none and so no batch.
    """

    skip = 0  # as SeededDL's

    def __init__(self, dl: SeededDL):
        self.whole = dl
        super().__init__(dl)
        self.dl = dl.new(bs=dl.bs // self.world_size, drop_last=False)
        self.dl.at_once = 0  # fastai's own takes what it's given for one batch
        self.bs = self.dl.bs
        self.fake_l.generator = torch.Generator()  # as SeededDL's

    @property
    def epoch(self) -> int | None:
        """As SeededDL's."""
        return self.dl.epoch

    @epoch.setter
    def epoch(self, epoch: int | None):
        self.dl.epoch = epoch

    def __len__(self) -> int:
        return len(self.whole)

    def get_idxs(self) -> list[int]:
        """This rank's, without those of the first `skip` batches.

        All ranks draw the same order: there is nothing to broadcast, for which fastai's own takes a GPU.
        """
        batches = chunked(self.dl.get_idxs(), self.whole.bs, self.whole.drop_last)
        return [i for batch in batches for i in batch[self.rank :: self.world_size]][self.skip * self.bs :]

    def to_detach(self, b, cpu: bool = True, gather: bool = True):
        """Without the other ranks' in validation, of whom some may have no batch."""
        return to_detach(b, cpu, gather and self.whole.drop_last)

    def wif(self):
        """As SeededDL's."""
        self.dl.wif()
