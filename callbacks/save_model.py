"""Save the best weights while training, and load them at the end."""

from pathlib import Path

from fastai.callback.tracker import SaveModelCallback, TrackerCallback
from fastai.torch_core import get_model, rank_distrib

from runtime.errors import UserError
from runtime.processes import on_rank0
from runtime.tensor_file import load_tensors, save_tensors

RESTORE = '; restore a copy of it, or train anew (train_fastai.py --config repeats a run)'


class SaveModel(SaveModelCallback):
    """fastai's SaveModelCallback, but it writes atomically and never loads an earlier fit's weights."""

    def before_fit(self):
        """Reset: nothing is saved yet in this fit."""
        super().before_fit()
        self.saved = False

    @property
    def file(self) -> Path:
        """The file of the best weights."""
        return self.learn.path / self.learn.model_dir / f'{self.fname}.pth'

    def after_epoch(self):
        """Save if the monitor improved."""
        TrackerCallback.after_epoch(self)
        if self.new_best:
            self._save()

    def _save(self):
        on_rank0(save_tensors)(get_model(self.model).state_dict(), self.file)
        self.saved = True

    def state_dict(self) -> dict:
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
        self.model.load_state_dict(on_rank0(load_tensors)(self.file))


class SaveLast(SaveModel):
    """SaveModel for a training without validation images: saves after each epoch, so the last weights are kept."""

    def after_epoch(self):
        self._save()
