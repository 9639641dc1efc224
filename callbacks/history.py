"""The table of a training run, one row an epoch."""

from math import isnan
from pathlib import Path
from time import perf_counter

import pandas as pd
from fastai.vision.all import Callback, Recorder, rank_distrib

from runtime.files import replacing


class History(Callback):
    """Record one row an epoch, in `table` and as CSV at `path`: the Recorder's columns, `lr` and `seconds`.

    fastai's CSVLogger keeps its file open (which breaks `learn.export`) and doesn't log the learning rate. Here each
    epoch replaces the whole file, so readers always find a complete one. Time spent on saving after an epoch counts
    towards the next epoch's seconds. The column `epoch` counts from 0, as in fastai; output for people counts from 1.
    """

    order = Recorder.order + 1  # after it has its values, before ReduceLROnPlateau changes the learning rate

    def __init__(self, path: Path):
        self.path, self.rows = Path(path), []

    @property
    def table(self) -> pd.DataFrame:
        """One row an epoch; accuracies are fractions, `train_loss` is the Recorder's smoothed loss."""
        return pd.DataFrame(self.rows)

    def before_fit(self):
        self.start = perf_counter()

    def state_dict(self) -> dict:
        """For a checkpoint: the rows, and the seconds of an unfinished epoch."""
        return {'rows': self.rows, 'seconds': perf_counter() - self.start}

    def load_state_dict(self, state: dict):
        self.rows, self.start = state['rows'], perf_counter() - state['seconds']
        self._write()

    def after_epoch(self):
        row = dict(zip(self.recorder.metric_names, self.recorder.log, strict=True))
        row.pop('time')
        row = {name: float('nan') if value is None else value for name, value in row.items()}  # None: no validation
        self.rows.append({**row, 'lr': self.opt.hypers[-1]['lr'], 'seconds': round(perf_counter() - self.start, 2)})
        self._write()
        self.start = perf_counter()

    def _write(self):
        if rank_distrib():
            return
        with replacing(self.path) as part:
            self.table.to_csv(part, index=False)


def kept_epoch(history: pd.DataFrame) -> pd.Series:
    """The row of the epoch whose weights are kept: the lowest validation loss, or the last epoch without validation."""
    return history.iloc[-1] if history.valid_loss.isna().all() else history.loc[history.valid_loss.idxmin()]


class EpochLines(Callback):
    """Print one plain line an epoch, for logs, where a progress bar's control characters would be in the way."""

    order = History.order + 1

    def after_epoch(self):
        row = self.history.rows[-1]
        known = [name for name in row if name not in ('epoch', 'seconds') and not isnan(row[name])]
        numbers = '  '.join(f'{name} {row[name]:.4g}' for name in known)
        print(f'epoch {self.epoch + 1}/{self.n_epoch}  {numbers}  {row["seconds"]:.0f} s')
