"""Save the best weights while training, and load them at the end."""

from copy import deepcopy
from pathlib import Path
from time import perf_counter

from fastai.vision.all import SaveModelCallback, TrackerCallback, get_model, rank_distrib

from runtime.errors import UserError
from runtime.processes import highest, on_rank0
from runtime.tensor_file import load_tensors, save_tensors

SECONDS = 30  # between writes: those of a ResNet-18 are 134 MB, which can take longer than an epoch on a GPU
RESTORE = '; restore a copy of it, or train anew (train_fastai.py --config repeats a run)'


class SaveModel(SaveModelCallback):
    """fastai's SaveModelCallback, but it writes atomically and never loads an earlier fit's weights.

    It keeps a copy of the best weights in memory. It writes them before a checkpoint, which refers to the file, and at
    the end; without checkpoints also after an epoch, at most every `SECONDS`. So the file may be newer than a
    checkpoint only if the process was killed between the two writes. A resumed training then finds the same weights
    again.
    """

    def before_fit(self):
        """Reset: nothing is saved yet in this fit."""
        super().before_fit()
        self.saved, self.unwritten, self.written = False, None, perf_counter()

    @property
    def file(self) -> Path:
        """The file of the best weights."""
        return self.learn.path / self.learn.model_dir / f'{self.fname}.pth'

    def after_epoch(self):
        """Keep the weights if the monitor improved."""
        TrackerCallback.after_epoch(self)
        self._keep(self.new_best)

    def _keep(self, best: bool):
        if best:
            self.saved, self.unwritten = True, deepcopy(get_model(self.model).state_dict())
        if highest(int(perf_counter() - self.written >= SECONDS)):
            self._write()

    def _write(self):
        if self.unwritten:
            on_rank0(save_tensors)(self.unwritten, self.file)
        self.unwritten, self.written = None, perf_counter()

    def state_dict(self) -> dict:
        """For a checkpoint; writes the weights that it refers to first."""
        self._write()
        return {'best': self.best, 'saved': self.saved}

    def load_state_dict(self, state: dict):
        """Raise UserError now, rather than after the last epoch, if the best weights are missing or damaged."""
        self.best, self.saved = state['best'], state['saved']
        if not self.saved or rank_distrib():
            return
        if not self.file.exists():
            raise UserError(f'the best weights so far, {self.file}, are missing' + RESTORE)
        load_tensors(self.file, RESTORE)

    def after_fit(self):
        """Load the best weights; UserError if the monitor never improved, so that none were saved."""
        if not self.saved:
            lr = self.opt.hypers[-1]['lr']
            raise UserError(
                f'{self.monitor} never got better than {self.best}: no weights are kept. Try an lr below {lr:.2g}'
            )
        self._write()
        self.model.load_state_dict(on_rank0(load_tensors)(self.file))


class SaveLast(SaveModel):
    """SaveModel for a training without validation images: each epoch's weights are the best so far."""

    def after_epoch(self):
        self._keep(True)
