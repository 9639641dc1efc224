"""The learning rate sweep: fastai's `lr_find`, which here leaves the Learner unchanged, and the choice of a rate."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from io import BytesIO
from math import inf
from time import perf_counter

import numpy as np
import torch
from fastai.vision.all import Learner, get_random_states, minimum, set_random_states, slide, steep, valley

from callbacks.eta import ETA
from data.prediction import refuse_to_train
from runtime.checked_file import number, read_json
from runtime.errors import printable
from runtime.figures import save_figure
from runtime.files import write_json
from runtime.processes import on_rank0
from training.memory import keep_freed_memory
from training.plots import plot_sweep


def lowest(lrs: torch.Tensor, losses: torch.Tensor, num_it: int) -> tuple[float, tuple[float, float]]:
    """The rate with the lowest loss (fastai's `minimum` is a tenth of it); the signature is that of fastai's rules."""
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
# fastai's `lr_find` drops as many steps before it suggests: at the start the smoothing settles, at the end the loss
# diverges
SKIP_START, SKIP_END = 1 / 10, 5


@dataclass(frozen=True)
class LRSweep:
    """The result of a sweep: the chosen rate, its rule and reason, all suggestions, the curve, and the seconds it took.

    The curve is `lrs` and `losses`: the rate and the smoothed loss of each step.
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
        """Rebuild an LRSweep from `asdict`'s values, read from JSON; TypeError or ValueError if they are invalid."""
        sweep = cls(**values)
        if not [type(o) for o in (sweep.suggestions, sweep.lrs, sweep.losses)] == [dict, list, list]:
            raise ValueError('suggestions, lrs and losses are an object and two lists')
        for lr in (sweep.lr, *sweep.suggestions.values(), *sweep.lrs):
            number(lr, 1e-30, 1e30)
        number(sweep.seconds, 0, 1e9)
        if not all(type(loss) in (int, float) and not 1e30 < abs(loss) < inf for loss in sweep.losses):
            raise ValueError('losses are numbers')  # a sweep that diverges has NaN or infinity
        if not len(sweep.lrs) == len(sweep.losses) > 0 or sweep.lrs != sorted(sweep.lrs):
            raise ValueError('lrs rise, each has a loss')
        if sweep.rule not in (*RULES, 'none', 'own', 'fallback') or sweep.suggestions.keys() - RULES:
            raise ValueError(f'a rule is one of {", ".join(RULES)}')
        if not isinstance(sweep.reason, str) or len(sweep.reason) > 1000:
            raise ValueError('reason is a sentence')
        return sweep

    def _repr_png_(self) -> bytes:
        """For notebooks: a plot of the curve, the choice and the other rules' suggestions."""
        png = BytesIO()
        plot_sweep(self).savefig(png, format='png', dpi=90)
        return png.getvalue()


def find_lr(learn: Learner) -> LRSweep:
    """Sweep the learning rate from 1e-4 to 10 and choose one by the recipe's rule.

    Smith 2015 (arXiv 1506.01186), by `Learner.lr_find`. `finetune` sweeps for at most a tenth of its training batches,
    and only the last layer if the others are pretrained. Weights, optimiser and random states are restored afterwards,
    also when the sweep is interrupted or fails. If the rule suggests nothing, for example because the sweep diverges at
    once, the fallback is the recipe's own rate, or a tenth of the rate at which the sweep diverged if that's lower.
    Raises UserError if there are no training images.
    """
    refuse_to_train(learn.dls)
    keep_freed_memory()
    recipe, steps, start = learn.recipe, learn.recipe.sweep_steps, perf_counter()
    restore = _snapshot(learn)
    try:
        # one rate for each parameter group; arrays, since for lists fastai makes a list of schedules and can't call it
        low, high = (lr * np.array([*recipe.lr_scales.values()]) for lr in (1e-4, 10))
        if recipe.frozen:
            learn.freeze()
        if recipe.schedule == 'finetune':
            steps = min(steps, max(1, recipe.epochs * len(learn.dls.train) // 10))
        learn.lr_find(low, high, steps, show_plot=False, suggest_funcs=None)
    finally:
        restore()
    lrs, losses = learn.recorder.lrs, [float(loss) for loss in learn.recorder.losses]
    suggestions = suggest(lrs, losses, steps)
    if recipe.lr_rule in ('none', 'own'):
        lr, rule, reason = recipe.lr, recipe.lr_rule, "the recipe's; the sweep is drawn for comparison"
    elif recipe.lr_rule in suggestions:
        lr, rule = suggestions[recipe.lr_rule], recipe.lr_rule
        reason = f'{IN_WORDS[rule]}, over {len(lrs)} steps from {lrs[0]:.0e} to {lrs[-1]:.2g}'
    else:
        lr, rule = min(recipe.lr, lrs[-1] / 10), 'fallback'
        reason = f"the recipe's own, or a tenth of where the sweep diverged: {len(lrs)} steps suggest nothing"
    return LRSweep(lr, rule, reason, suggestions, lrs, losses, round(perf_counter() - start, 1))


@on_rank0
def choose_lr(learn: Learner) -> float:
    """Return a run's learning rate: the recipe's own, or found by a sweep.

    The sweep is saved in the run folder `learn.path`, as sweep.json and as a plot; an existing one is reused. Raises
    UserError if sweep.json is invalid.
    """
    if learn.recipe.lr_rule == 'none':
        return learn.recipe.lr
    sweep, picture = read_sweep(learn), learn.path / 'plots/lr_find.png'
    if not sweep:
        with learn.added_cbs(ETA()):
            sweep = find_lr(learn)
        write_json(learn.path / 'sweep.json', asdict(sweep))
    if not picture.is_file():
        save_figure(plot_sweep(sweep), picture)
    print(f'lr {sweep.lr:.3g}: {sweep.rule}, {printable(sweep.reason)}')
    return sweep.lr


def read_sweep(learn: Learner) -> LRSweep | None:
    """The sweep of a run, or None if it has none, as with a recipe's own rate; UserError if sweep.json is invalid."""
    file = learn.path / 'sweep.json'
    if learn.recipe.lr_rule == 'none' or not file.is_file():
        return None
    return read_json(file, 'sweep', LRSweep.from_dict, nan=True, way_out='delete it, to sweep again')


def suggest(lrs: list[float], losses: list[float], steps: int) -> dict[str, float]:
    """The suggestions of fastai's four rules and `lowest` for a sweep of `steps` planned steps; rules may find none."""
    kept = slice(int(steps * SKIP_START), -SKIP_END)
    x, y = torch.tensor(lrs[kept]), torch.tensor(losses[kept])
    finite = y.isfinite().cumprod(0).bool()
    x, y = x[finite], y[finite]
    found = {}
    for name, rule in RULES.items():
        try:
            lr, _ = rule(x, y, steps)
        except (IndexError, ValueError, RuntimeError):  # the curve is too short; each rule fails in its own way
            continue
        if torch.isfinite(torch.tensor(lr)):
            found[name] = lr
    return found


def _snapshot(learn: Learner) -> Callable[[], None]:
    """Return a function that restores the present weights, training mode, optimiser and random states."""
    weights, training, opt = deepcopy(learn.model.state_dict()), learn.model.training, learn.opt
    opt_state = opt and deepcopy(opt.state_dict())
    loader, states = learn.dls.train, get_random_states()
    order, epoch = loader.rng.getstate(), getattr(loader, 'epoch', None)
    trainable = [p for p in learn.model.parameters() if p.requires_grad]

    def restore():
        for p in trainable:
            p.requires_grad_(True)  # a sweep of the last layer froze the others
        learn.model.load_state_dict(weights)
        learn.model.train(training)
        learn.model.zero_grad()  # a sweep interrupted after its backward pass leaves gradients
        learn.opt = opt
        if opt:
            opt.load_state_dict(opt_state)
        loader.rng.setstate(order)
        loader.epoch = epoch
        set_random_states(**states)

    return restore
