"""From DataLoaders to trained weights."""

from training.fit import fit
from training.learner import get_learner
from training.lr_finder import LRSweep, find_lr
from training.saved_run import load_model, load_run

__all__ = ['LRSweep', 'find_lr', 'fit', 'get_learner', 'load_model', 'load_run']
