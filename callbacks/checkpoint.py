"""Checkpoints: save the training state, and resume an interrupted training to the same result."""

from pathlib import Path
from threading import Event
from time import perf_counter

from fastai.vision.all import Callback, Learner, get_model, num_distrib
from torch import isfinite

from callbacks.averaged_weights import AveragedWeights
from callbacks.random_states import all_random_states, restore_random_states
from callbacks.recorder import shared
from callbacks.save_model import SECONDS
from runtime.errors import UserError, printable
from runtime.processes import highest, on_rank0
from runtime.tensor_file import load_tensors, save_tensors

NAMES = 'last.pth', 'last.previous.pth'

SAVE, STOP = 1, 2


class Checkpoint(Callback):
    """Save the whole training state to `folder`/last.pth, and start from `state` (of `load_checkpoint`) if given.

    Saves after an epoch if the last save is `SECONDS` ago, within an epoch if it is `minutes` ago, after the last
    epoch, and when `stop` is set, which also ends the training with a KeyboardInterrupt. The previous file is kept as
    last.previous.pth. `identity` describes the training that the checkpoint belongs to. The states of callbacks with
    `state_dict` and `load_state_dict` are saved, too. With several processes, all save after the same batch, and rank 0
    writes.
    """

    order = AveragedWeights.order + 1  # after an epoch all that is saved has changed, also the learning rate

    def __init__(self, folder: Path, minutes: float, stop: Event, identity: dict, state: dict | None = None):
        self.folder, self.minutes, self.stop, self.identity, self.state = folder, minutes, stop, identity, state

    def before_fit(self):
        """Restore everything but the epoch's meters, or remove an earlier training's checkpoints."""
        self.saved, self.place, self.meters = perf_counter(), (0, 0), []
        if not self.state:
            on_rank0(self._forget)()
            return
        try:
            self._restore()
        except UserError:
            raise
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as e:
            message = f'the checkpoint in {self.folder} is not of this training: fit without resume, which replaces it'
            raise UserError(message) from e
        if self.place[0] < self.n_epoch:
            print(f'going on at epoch {self.place[0] + 1}, batch {self.place[1] + 1}')
        else:
            epochs = f'has all epochs ({self.n_epoch})'
            print(f'the checkpoint in {printable(self.folder)} {epochs}: nothing is left to train')

    def _forget(self):
        for name in NAMES:
            (self.folder / name).unlink(missing_ok=True)

    def _restore(self):
        self.place, self.meters = (int(self.state['epoch']), int(self.state['batch'])), self.state['meters']
        get_model(self.model).load_state_dict(self.state['model'])
        self.opt.load_state_dict(_regrouped(self.state['opt'], [len(group) for group in self.opt.param_lists]))
        scaler = getattr(self.learn, 'scaler', None)
        if scaler and self.state['scaler']:  # a checkpoint from another device may have none
            scaler.load_state_dict(self.state['scaler'])
        for cb in self._stateful():
            cb.load_state_dict(self.state['callbacks'][cb.name])
        states = self.state['random']
        self.meters = shared(self.meters, len(states) / max(num_distrib(), 1))
        self.recorder.restore(self.meters)
        self.learn.first_epoch, self.dls.train.skip = self.place
        restore_random_states(states)

    def before_train(self):
        """Restore the meters, which the start of the epoch has reset."""
        if self.state:
            self.recorder.restore(self.meters)
            self.state = None

    def after_batch(self):
        """Record the position, and save if it's time or if training has to stop."""
        if self.training:
            self.place = self.epoch, self.iter + 1
        if self.training or self.iter + 1 < self.n_iter:  # in validation's last batch some ranks may have no image
            self._save_or_stop()

    def after_train(self):
        self.meters = self.recorder.numbers()  # validation resets the metrics
        self.dls.train.skip = 0  # only the epoch that was resumed skips batches

    @staticmethod
    def forget_place(learn: Learner) -> None:
        """Let the next fit of `learn` begin at its first epoch and batch, however this one has ended."""
        learn.first_epoch, learn.dls.train.skip, learn.dls.train.epoch = 0, 0, None

    def after_validate(self):
        self._save_or_stop()  # for the last batch, which `after_batch` leaves out

    def _save_or_stop(self):
        due = self.training and self._is_due(60 * self.minutes)
        asked = highest(STOP if self.stop.is_set() else SAVE if due else 0)
        if asked and self.training:
            self.meters = self.recorder.numbers()
        if asked and isfinite(self.recorder.smooth_loss.val):  # StopOnNaN may be late on a GPU
            self.save()
        if asked == STOP:
            raise KeyboardInterrupt

    def after_epoch(self):
        """Save, with the smoothed loss (the first meter), which continues, but without the metrics, which restart."""
        self.place, self.meters = (self.epoch + 1, 0), self.recorder.numbers()[:1]
        if highest(int(self.epoch + 1 == self.n_epoch or self._is_due(min(SECONDS, 60 * self.minutes)))):
            self.save()

    def _is_due(self, seconds: float) -> bool:
        return perf_counter() - self.saved >= seconds

    def save(self):
        """Write the checkpoint; if that fails, the previous one is intact."""
        self.saved = perf_counter()
        scaler = getattr(self.learn, 'scaler', None)
        state = {
            'training': self.identity,
            'epoch': self.place[0],
            'batch': self.place[1],
            'model': get_model(self.model).state_dict(),
            'opt': self.opt.state_dict(),
            'scaler': scaler and scaler.state_dict(),
            'callbacks': {cb.name: cb.state_dict() for cb in self._stateful()},
            'meters': self.meters,
            'random': all_random_states(),
        }
        last, previous = (self.folder / name for name in NAMES)
        on_rank0(save_tensors)(state, last, keep=previous)

    def _stateful(self) -> list[Callback]:
        # ask the class: a callback instance delegates missing attributes to the Learner, and that to the model
        return [cb for cb in self.learn.cbs if hasattr(type(cb), 'load_state_dict')]


def load_checkpoint(folder: Path) -> dict | None:
    """The newest intact checkpoint in `folder`, or None; a damaged one is reported and removed."""
    for file in (folder / name for name in NAMES):
        try:
            return load_tensors(file)
        except FileNotFoundError:
            continue
        except UserError as e:
            print(f'{printable(e)}; it is removed, and the one before it used if there is one')
            file.unlink()  # otherwise the next save would keep it instead of a good one
    return None


def _regrouped(opt: dict, sizes: list[int]) -> dict:
    """Split the last group of an optimiser's state to match `sizes`: earlier versions had none for the last layer."""
    *groups, last = opt['param_groups']
    if len(groups) + 1 == len(sizes):
        return opt
    split = len(last['params']) - sizes[-1]
    parts = [{**last, 'params': params} for params in (last['params'][:split], last['params'][split:])]
    return {**opt, 'param_groups': [*groups, *parts]}
