"""Progress for an output that is no terminal."""

from math import isnan

from fastai.callback.core import Callback

from callbacks.history import History


class EpochLines(Callback):
    """One plain line an epoch, where a bar's control characters would flood a log."""

    order = History.order + 1

    def after_epoch(self):
        """Print the row that History has just added."""
        row = self.history.rows[-1]
        known = [name for name in row if name not in ('epoch', 'seconds') and not isnan(row[name])]
        numbers = '  '.join(f'{name} {row[name]:.4g}' for name in known)
        print(f'epoch {self.epoch + 1}/{self.n_epoch}  {numbers}  {row["seconds"]:.0f} s')
