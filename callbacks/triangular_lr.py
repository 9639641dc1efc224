"""A learning rate schedule that rises and falls linearly."""

from collections.abc import Sequence

from fastai.callback.schedule import ParamScheduler, SchedLin, combine_scheds

START, PEAK, END = 0.2, 0.23, 0.07


class Triangle(ParamScheduler):
    """Rise from 20% of `lrs` to `lrs` during the first 23% of the training, then fall to 7% at the end.

    `lrs` has one learning rate for each parameter group. Jordan 2024, arXiv 2404.00498, listing 4.
    """

    def __init__(self, lrs: Sequence[float]):
        share = combine_scheds([PEAK, 1 - PEAK], [SchedLin(START, 1), SchedLin(1, END)])
        super().__init__({'lr': lambda pct: [float(share(pct)) * lr for lr in self.lrs]})
        self.lrs = list(lrs)

    def before_batch(self):
        """Set the rate from epoch and batch; fastai's own running sum is lost when training resumes."""
        self._update_val((self.epoch + self.iter / self.n_iter) / self.n_epoch)

    def state_dict(self) -> dict:
        return {'lrs': self.lrs}

    def load_state_dict(self, state: dict):
        lrs = state['lrs']
        self.lrs = lrs + lrs[-1:] * (len(self.lrs) - len(lrs))  # earlier versions had no group for the last layer
