"""The learning rate sweep: fastai's `lr_find`, guarded, and a rule with a reason."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from io import BytesIO
from math import inf
from time import perf_counter

import numpy as np
import torch
from fastai.callback.schedule import minimum, slide, steep, valley
from fastai.learner import Learner
from fastai.torch_core import get_random_states, set_random_states

from checked_file import number
from data.unseen import refuse_to_train
from interpret import plots
from winograd import winograd_convolutions


def lowest(lrs: torch.Tensor, losses: torch.Tensor, num_it: int) -> tuple[float, tuple[float, float]]:
    """The rate with the lowest loss; fastai's `minimum` takes a tenth of it. Called as fastai calls its own rules."""
    i = losses.argmin()
    return lrs[i].item(), (lrs[i].item(), losses[i].item())


RULES = {rule.__name__: rule for rule in (valley, slide, minimum, steep, lowest)}
IN_WORDS = {
    'valley': 'half way along the longest stretch of falling loss',
    'slide': 'the largest rate before the slope changes by more than 0.005 in 15 steps',
    'minimum': 'a tenth of the rate with the lowest loss',
    'steep': 'where the loss falls fastest',
    'lowest': 'the rate with the lowest loss',
}
# fastai's own `lr_find` drops as much before it looks for a suggestion: smoothing settles at the start, and the end
# is the divergence
SKIP_START, SKIP_END = 1 / 10, 5


@dataclass(frozen=True)
class LRSweep:
    """What a sweep found: the rate to train with, why, all suggestions, and the curve (smoothed loss of each step).

    And how many seconds it took.
    """

    lr: float
    rule: str
    reason: str
    suggestions: dict[str, float] = field(repr=False)
    lrs: list[float] = field(repr=False)
    losses: list[float] = field(repr=False)
    seconds: float

    @classmethod
    def from_dict(cls, values: dict) -> 'LRSweep':
        """The LRSweep that `asdict` and JSON have made `values` of; TypeError or ValueError where they can't be one."""
        sweep = cls(**values)
        if not [type(o) for o in (sweep.suggestions, sweep.lrs, sweep.losses)] == [dict, list, list]:
            raise ValueError('suggestions, lrs and losses are an object and two lists')
        for lr in (sweep.lr, *sweep.suggestions.values(), *sweep.lrs):
            number(lr, 1e-30, 1e30)
        number(sweep.seconds, 0, 1e9)
        if not all(type(loss) in (int, float) and not 1e30 < abs(loss) < inf for loss in sweep.losses):
            raise ValueError('losses are numbers')  # NaN and infinity, too, where a sweep diverges
        if not len(sweep.lrs) == len(sweep.losses) > 0 or sweep.lrs != sorted(sweep.lrs):
            raise ValueError('lrs rise, each has a loss')
        if sweep.rule not in (*RULES, 'none', 'fallback') or sweep.suggestions.keys() - RULES:
            raise ValueError(f'a rule is one of {", ".join(RULES)}')
        if not isinstance(sweep.reason, str) or len(sweep.reason) > 1000:
            raise ValueError('reason is a sentence')
        return sweep

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the curve, the choice and what other rules suggest."""
        png = BytesIO()
        plots.plot_sweep(self).savefig(png, format='png', dpi=90)
        return png.getvalue()


def find_lr(learn: Learner) -> LRSweep:
    """Sweep the learning rate from 1e-4 to 10 and choose one by the recipe's rule.

    Smith 2015 (arXiv 1506.01186), through `Learner.lr_find`. Weights, optimiser and random states are afterwards what
    they were before, also when the sweep is interrupted or fails. Where the rule finds nothing, as after a sweep that
    diverges at once, the fallback is the recipe's own rate, or a tenth of where the sweep diverged if that's lower.
    UserError where there are no training images.
    """
    refuse_to_train(learn.dls)
    recipe, steps, start = learn.recipe, learn.recipe.sweep_steps, perf_counter()
    restore = _snapshot(learn)
    try:
        # of each parameter group; as arrays, since fastai's own lists aren't callable
        low, high = (lr * np.array([*recipe.lr_scales.values()]) for lr in (1e-4, 10))
        with winograd_convolutions(learn.model):
            learn.lr_find(low, high, steps, show_plot=False, suggest_funcs=None)
    finally:
        restore()
    lrs, losses = learn.recorder.lrs, [float(loss) for loss in learn.recorder.losses]
    suggestions = suggest(lrs, losses, steps)
    if recipe.lr_rule == 'none':
        lr, rule, reason = recipe.lr, 'none', 'the recipe has its own, tuned together with the rest of it'
    elif recipe.lr_rule in suggestions:
        lr, rule = suggestions[recipe.lr_rule], recipe.lr_rule
        reason = f'{IN_WORDS[rule]}, over {len(lrs)} steps from {lrs[0]:.0e} to {lrs[-1]:.2g}'
    else:
        lr, rule = min(recipe.lr, lrs[-1] / 10), 'fallback'
        reason = f"the recipe's own, or a tenth of where the sweep diverged: {len(lrs)} steps suggest nothing"
    return LRSweep(lr, rule, reason, suggestions, lrs, losses, round(perf_counter() - start, 1))


def suggest(lrs: list[float], losses: list[float], steps: int) -> dict[str, float]:
    """What fastai's four rules and `lowest` suggest for a sweep planned for `steps` steps, without those that can't."""
    kept = slice(int(steps * SKIP_START), -SKIP_END)
    x, y = torch.tensor(lrs[kept]), torch.tensor(losses[kept])
    finite = y.isfinite().cumprod(0).bool()
    x, y = x[finite], y[finite]
    found = {}
    for name, rule in RULES.items():
        try:
            lr, _ = rule(x, y, steps)
        except (IndexError, ValueError, RuntimeError):  # too short for the rule, each in its own way
            continue
        if torch.isfinite(torch.tensor(lr)):
            found[name] = lr
    return found


def _snapshot(learn: Learner) -> Callable[[], None]:
    """A function that puts weights, mode, optimiser and random states back to what they are now."""
    weights, training, opt = deepcopy(learn.model.state_dict()), learn.model.training, learn.opt
    opt_state = opt and deepcopy(opt.state_dict())
    loader, states = learn.dls.train, get_random_states()
    order, epoch = loader.rng.getstate(), getattr(loader, 'epoch', None)

    def restore():
        learn.model.load_state_dict(weights)
        learn.model.train(training)
        learn.model.zero_grad()  # an interrupted sweep may have got as far as its backward pass
        learn.opt = opt
        if opt:
            opt.load_state_dict(opt_state)
        loader.rng.setstate(order)
        loader.epoch = epoch
        set_random_states(**states)

    return restore
