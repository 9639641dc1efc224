"""The table of a training run."""

from pathlib import Path
from time import perf_counter

import pandas as pd
from fastai.callback.core import Callback
from fastai.learner import Recorder
from fastai.torch_core import rank_distrib

from atomic import replacing


class History(Callback):
    """Keep one row an epoch, in `table` and as CSV at `path`: the Recorder's columns, `lr` and `seconds`.

    fastai's CSVLogger keeps its file open (which breaks `learn.export`) and knows no learning rate. Here each epoch
    replaces the file as a whole, so that what is read is always complete. What is saved after an epoch counts to the
    next one's seconds. The column `epoch` counts from 0, as fastai does; what people are shown counts from 1.
    """

    order = Recorder.order + 1  # after its values, before the trackers change the learning rate

    def __init__(self, path: Path):
        self.path, self.rows = Path(path), []

    @property
    def table(self) -> pd.DataFrame:
        """One row an epoch; accuracies are fractions, `train_loss` is the Recorder's smoothed one."""
        return pd.DataFrame(self.rows)

    def before_fit(self):
        """Start the clock."""
        self.start = perf_counter()

    def state_dict(self) -> dict:
        """For a checkpoint: the rows, and the seconds of the epoch that it may be in."""
        return {'rows': self.rows, 'seconds': perf_counter() - self.start}

    def load_state_dict(self, state: dict):
        """From a checkpoint."""
        self.rows, self.start = state['rows'], perf_counter() - state['seconds']
        self._write()

    def after_epoch(self):
        """Add the epoch's row."""
        row = dict(zip(self.recorder.metric_names, self.recorder.log, strict=True))
        row.pop('time')
        row = {name: float('nan') if value is None else value for name, value in row.items()}  # of no validation
        self.rows.append({**row, 'lr': self.opt.hypers[-1]['lr'], 'seconds': round(perf_counter() - self.start, 2)})
        self._write()
        self.start = perf_counter()

    def _write(self):
        if rank_distrib():
            return
        with replacing(self.path) as part:
            self.table.to_csv(part, index=False)


def kept_epoch(history: pd.DataFrame) -> pd.Series:
    """The row of the epoch whose weights are kept: the one with the lowest validation loss, or without any the last."""
    return history.iloc[-1] if history.valid_loss.isna().all() else history.loc[history.valid_loss.idxmin()]
