"""Share each batch among the processes of distributed training."""

import torch
from fastai.distributed import DistributedDL
from fastai.vision.all import chunked, to_detach

from data.seeded_loader import SeededDL


class ShareDL(DistributedDL):
    """Load this rank's share of each batch of `dl`; the shares of all ranks make up the batch.

    fastai's DistributedDL divides the epoch instead and pads it with images that then count twice. Here training shares
    are equal; in the last validation batch some ranks have one image less, or no image and so no batch.
    """

    skip, epoch = 0, None  # as in SeededDL

    def __init__(self, dl: SeededDL):
        self.whole = dl
        super().__init__(dl)
        self.dl = dl.new(bs=dl.bs // self.world_size, drop_last=False)
        self.dl.at_once = 0  # DistributedDL expects single batches
        self.bs = self.dl.bs
        self.fake_l.generator = torch.Generator()  # as in SeededDL

    def before_iter(self):
        self.dl.epoch = self.epoch
        super().before_iter()

    def __len__(self) -> int:
        return len(self.whole)

    def get_idxs(self) -> list[int]:
        """Return this rank's items, without the first `skip` batches; all ranks draw the same order by themselves."""
        batches = chunked(self.dl.get_idxs(), self.whole.bs, self.whole.drop_last)
        return [i for batch in batches for i in batch[self.rank :: self.world_size]][self.skip * self.bs :]

    def to_detach(self, b, cpu: bool = True, gather: bool = True):
        """Don't gather from other ranks in validation: some may have no batch."""
        return to_detach(b, cpu, gather and self.whole.drop_last)

    def wif(self):
        self.dl.wif()
