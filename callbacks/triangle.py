"""A learning rate that rises and falls in straight lines."""

from collections.abc import Sequence

from fastai.callback.schedule import ParamScheduler, SchedLin, combine_scheds

START, PEAK, END = 0.2, 0.23, 0.07


class Triangle(ParamScheduler):
    """From a fifth of `lrs` up to them during the first 23% of the training, and down to 7% of them until the end.

    `lrs` has one learning rate for each parameter group. Jordan 2024, arXiv 2404.00498, listing 4.
    """

    def __init__(self, lrs: Sequence[float]):
        share = combine_scheds([PEAK, 1 - PEAK], [SchedLin(START, 1), SchedLin(1, END)])
        super().__init__({'lr': lambda pct: [float(share(pct)) * lr for lr in self.lrs]})
        self.lrs = list(lrs)

    def before_batch(self):
        """By the place in the training: fastai's own sum forgets it where training goes on from a checkpoint."""
        self._update_val((self.epoch + self.iter / self.n_iter) / self.n_epoch)

    def state_dict(self) -> dict:
        """For a checkpoint."""
        return {'lrs': self.lrs}

    def load_state_dict(self, state: dict):
        """From a checkpoint."""
        self.lrs = state['lrs']
