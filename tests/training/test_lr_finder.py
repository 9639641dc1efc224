import json
import math
import random
import re
from dataclasses import asdict, replace
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.schedule import minimum, slide, steep, valley
from PIL import Image
from tiny import TINY

from config.recipes import REFERENCE
from runtime.errors import UserError
from training.lr_finder import LRSweep, choose_lr, find_lr, read_sweep, suggest


def state(learn):
    """All state that a sweep must not change, as bytes."""
    tensors = [*learn.model.state_dict().values(), torch.get_rng_state()]
    tensors += [p.grad for p in learn.model.parameters() if p.grad is not None]
    if learn.opt:
        tensors += [s['momentum_buffer'] for s in learn.opt.state_dict()['state'].values()]
    randoms = random.getstate(), np.random.get_state()[1].tolist(), learn.dls.train.rng.getstate()
    hypers = learn.opt and str(learn.opt.hypers)
    return [t.numpy().tobytes() for t in tensors], randoms, hypers, learn.model.training, learn.dls.train.epoch


@pytest.mark.parametrize('trained', [False, True])
def test_leaves_everything_as_it_was(learner, trained):
    learn = learner(replace(TINY, dropout=0.1))
    if trained:
        learn.fit(1, 0.01)
    before = state(learn)
    find_lr(learn)
    assert state(learn) == before


class Fail(Callback):
    def __init__(self, error, event):
        self.error = error
        setattr(self, event, self.fail)

    def fail(self):
        if self.train_iter == 5:
            raise self.error


@pytest.mark.parametrize('event', ['before_batch', 'after_pred', 'after_backward', 'after_step', 'after_batch'])
@pytest.mark.parametrize('error', [KeyboardInterrupt, RuntimeError('out of memory')])
def test_leaves_everything_as_it_was_when_interrupted(learner, error, event):
    learn = learner()
    learn.fit(1, 0.01)
    before = state(learn)
    learn.add_cb(Fail(error, event))
    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        find_lr(learn)
    assert state(learn) == before
    learn.remove_cb(Fail)
    assert find_lr(learn).lrs  # the Learner still works
    assert state(learn) == before


def test_a_repl_shows_the_choice_and_a_notebook_the_curve(learner):
    sweep = find_lr(learner())
    assert re.fullmatch(r"LRSweep\(lr=.*, rule='lowest', reason='the rate with .*', seconds=.*\)", repr(sweep))
    with Image.open(BytesIO(sweep._repr_png_())) as image:
        assert image.size == (720, 405)  # 8 x 4.5 inches
        assert np.asarray(image.convert('L')).std() > 5


def test_names_the_rule_and_the_reason(learner):
    learn = learner()
    sweep = find_lr(learn)
    assert sweep.rule == TINY.lr_rule
    assert sweep.lr == sweep.suggestions[TINY.lr_rule]
    assert len(sweep.lrs) == len(sweep.losses) <= TINY.sweep_steps
    assert sweep.lrs[0] == pytest.approx(1e-4)
    assert '\n' not in sweep.reason


def test_suggests_what_fastai_suggests(learner):
    learn = learner()
    torch.manual_seed(0)
    fastai = learn.lr_find(1e-4, 10, 30, stop_div=False, show_plot=False, suggest_funcs=(valley, slide, minimum, steep))
    recorded = [float(loss) for loss in learn.recorder.losses]
    ours = suggest(learn.recorder.lrs, recorded, 30)
    assert ours.pop('lowest') == pytest.approx(10 * fastai.minimum)
    assert ours == pytest.approx(fastai._asdict())


def test_falls_back_on_the_recipe_when_the_sweep_diverges_at_once(learner):
    class Explode(Callback):
        def after_pred(self):
            self.learn.pred = self.pred * 10.0 ** (8 * self.train_iter)

    learn = learner(replace(TINY, lr=0.123))
    learn.add_cb(Explode())
    before = state(learn)
    sweep = find_lr(learn)
    assert sweep.rule == 'fallback'
    assert sweep.lr == sweep.lrs[-1] / 10 < 0.123  # not above where it diverged
    assert 'diverged' in sweep.reason
    assert state(learn) == before


@pytest.mark.parametrize('poison', [float('nan'), float('inf')])
def test_losses_after_the_first_nan_are_ignored(poison):
    lrs = np.geomspace(1e-4, 10, 60)
    losses = 2 + (np.log10(lrs) + 1.5) ** 2 / 10
    cut = suggest(lrs[:45].tolist(), losses[:45].tolist(), 60)
    losses[40], losses[41:] = poison, 0.0
    assert suggest(lrs.tolist(), losses.tolist(), 60) == cut
    assert cut['lowest'] == pytest.approx(10**-1.5, rel=0.1)


@pytest.mark.parametrize('n', range(12))
def test_a_short_or_poisoned_curve_suggests_nothing_or_something_finite(n):
    lrs = np.geomspace(1e-4, 10, 60)[: n + 1].tolist()
    for losses in ([1.0] * (n + 1), [float('nan')] * (n + 1), [2.0] * n + [float('inf')]):
        assert all(np.isfinite(lr) for lr in suggest(lrs, losses, 60).values())


def test_a_recipe_may_have_its_own_rate_and_groups(learner):
    learn = learner(replace(TINY, lr_rule='none', bias_lr=64.0, lr=0.123))
    sweep = find_lr(learn)
    assert (sweep.lr, sweep.rule) == (0.123, 'none')
    assert sweep.lrs[0] == pytest.approx(1e-4)  # the last group's: fastai logs it as the rate of all


def test_the_reference_trains_at_the_published_rate_beside_a_sweep(learner, capsys):
    learn = learner(replace(TINY, lr=REFERENCE.lr, lr_rule=REFERENCE.lr_rule))
    assert choose_lr(learn) == 0.0204
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "lr 0.0204: own, the recipe's; the sweep is drawn for comparison"
    saved = json.loads((learn.path / 'sweep.json').read_text())
    assert (saved['lr'], saved['rule'], len(saved['lrs'])) == (0.0204, 'own', TINY.sweep_steps)
    assert (learn.path / 'plots/lr_find.png').is_file()
    assert choose_lr(learn) == 0.0204  # from sweep.json


SWEEP = {
    'lr': 0.1,
    'rule': 'valley',
    'reason': 'half way along',
    'suggestions': {'valley': 0.1, 'steep': 0.2},
    'lrs': [0.01, 0.1, 1.0],
    'losses': [2.0, 1.0, 3.0],
    'seconds': 4,
}
ODD = [
    None, True, 'x', '', '\x1b[31m', -1, 0, math.nan, math.inf, -math.inf, 1e300, 10**400, [], {}, [[1]], ['x'], [None],
    {'a': 1}, {'valley': []}, [1.0] * 4,
]  # fmt: skip
PLACES = [(name,) for name in SWEEP] + [('suggestions', 'valley'), ('lrs', 0), ('lrs', 2), ('losses', 0)]
FINE = {  # those of ODD that are valid, as JSON
    ('reason',): {'"x"', '""', '"\\u001b[31m"'},
    ('suggestions',): {'{}'},
    ('seconds',): {'0'},
    ('losses', 0): {'-1', '0', 'NaN', 'Infinity', '-Infinity'},  # as in a sweep that diverges
}


def test_a_sweep_is_read_as_it_was_written():
    assert asdict(LRSweep.from_dict(json.loads(json.dumps(SWEEP)))) == SWEEP


@pytest.mark.parametrize('place', PLACES)
def test_a_sweep_json_of_other_values_is_refused_or_can_be_used(place, tmp_path):
    file, learn = tmp_path / 'sweep.json', SimpleNamespace(path=tmp_path, recipe=TINY)
    for odd in ODD:
        content = json.loads(json.dumps(SWEEP))
        holder = content[place[0]] if len(place) > 1 else content
        holder[place[-1]] = odd
        file.write_text(json.dumps(content))
        if json.dumps(odd) in FINE.get(place, ()):
            assert choose_lr(learn) == SWEEP['lr']
            assert read_sweep(learn).seconds == content['seconds']
            assert (tmp_path / 'plots/lr_find.png').stat().st_size
            continue
        with pytest.raises(
            UserError, match=r'sweep\.json is not a valid sweep \(.*\): delete it, to sweep again$'
        ) as e:
            choose_lr(learn)
        assert str(e.value).isprintable()


@pytest.mark.parametrize('text', [
    '', '{', '[]', '{}', 'null', '1', '"x"', '[' * 100_000, json.dumps({**SWEEP, 'extra': 1}), json.dumps([SWEEP]),
    *(json.dumps({k: v for k, v in SWEEP.items() if k != name}) for name in SWEEP),
    json.dumps({**SWEEP, 'lrs': [0.01, 1.0, 0.1]}), json.dumps({**SWEEP, 'losses': [1.0]}),
    json.dumps({**SWEEP, 'reason': 'x' * 10**6}),
])  # fmt: skip
def test_a_sweep_json_of_another_shape_is_refused(text, tmp_path):
    (tmp_path / 'sweep.json').write_text(text)
    with pytest.raises(UserError, match=r'sweep\.json is not a valid sweep'):
        choose_lr(SimpleNamespace(path=tmp_path, recipe=TINY))
