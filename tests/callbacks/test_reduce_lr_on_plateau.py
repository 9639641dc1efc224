import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.tracker import TrackerCallback
from fastai.optimizer import SGD

from callbacks.reduce_lr_on_plateau import plateau_cbs
from runtime.errors import UserError


class Script(Callback):
    """Replace each epoch's validation loss with the next of `values`, and record each epoch's LR and weights."""

    order = TrackerCallback.order - 1

    def __init__(self, values):
        self.values, self.lrs, self.heads = values, [], []

    def after_epoch(self):
        self.recorder.values[-1][self.recorder.metric_names.index('valid_loss') - 1] = self.values[self.epoch]
        self.lrs.append(self.opt.hypers[-1]['lr'])
        self.heads.append(self.model.fc.bias.detach().clone())


def run(learn, values, lr=0.01, **kwargs):
    script = Script(values)
    learn.fit(len(values), lr, cbs=[*plateau_cbs(**kwargs), script])
    return script


def test_cuts_our_optimisers_lr_on_a_plateau(learner, capsys):
    learn = learner()
    script = run(learn, [1.0] * 6, patience=2, factor=10.0)
    # epoch 1 improves on infinity; 2 and 3 don't: cut; 4 and 5 don't: cut; 6 trains with the second cut
    np.testing.assert_allclose(script.lrs, [0.01, 0.01, 0.01, 0.001, 0.001, 0.0001])
    assert learn.opt.opt.param_groups[0]['lr'] == pytest.approx(0.0001)  # torch's own optimiser, which makes the steps
    assert capsys.readouterr().out.splitlines() == [
        'epoch 3: valid_loss has not improved for 2 epochs, lr cut to 0.001',
        'epoch 5: valid_loss has not improved for 2 epochs, lr cut to 0.0001',
    ]


def test_cuts_fastais_optimisers_lr(learner):
    learn = learner()
    learn.opt_func = SGD
    np.testing.assert_allclose(run(learn, [1.0] * 4, patience=1, factor=5.0).lrs, [0.01, 0.01, 0.002, 0.0004])


def test_improvement_resets_the_patience(learner):
    script = run(learner(), [1.0, 2.0, 0.9, 2.0, 2.0], patience=2, factor=10.0)
    np.testing.assert_allclose(script.lrs, [0.01] * 5)


def test_loads_the_weights_of_the_best_epoch(learner):
    learn = learner()
    script = run(learn, [3.0, 1.0, 2.0])
    assert torch.equal(learn.model.fc.bias, script.heads[1])
    assert not torch.equal(learn.model.fc.bias, script.heads[2])
    kept = torch.load(learn.path / 'models/best.pth', weights_only=True)
    assert torch.equal(kept['fc.bias'], script.heads[1])
    assert [f.name for f in (learn.path / 'models').iterdir()] == ['best.pth']


def test_both_callbacks_share_direction_and_threshold(learner):
    # for both, an accuracy that grows by less than min_delta is no improvement
    learn = learner()
    script = run(learn, [0.5, 0.55, 0.7], comp=np.greater, min_delta=0.1, patience=1, factor=10.0)
    np.testing.assert_allclose(script.lrs, [0.01, 0.01, 0.001])
    assert torch.equal(learn.model.fc.bias, script.heads[2])


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_without_any_improvement_fit_fails_and_loads_no_stale_model(learner, value):
    learn = learner()
    run(learn, [1.0])
    with pytest.raises(UserError, match=r'^valid_loss never got better than inf: .*an lr below 0\.01'):
        run(learn, [value, value])


def test_refuses_a_schedule_that_would_undo_the_cuts(learner):
    with pytest.raises(UserError, match=r'^ReduceLROnPlateau has no effect under a schedule such as fit_one_cycle'):
        learner().fit_one_cycle(1, cbs=plateau_cbs())


def test_lr_find_is_not_refused_as_a_schedule(learner):
    learn = learner()
    learn.add_cbs(plateau_cbs())
    learn.lr_find(num_it=10, show_plot=False, suggest_funcs=None)
    assert not (learn.path / 'models/best.pth').exists()


def test_history_has_the_epochs_learning_rate_from_before_the_cut(learner, tmp_path):
    from callbacks.history import History

    learn = learner()
    history = History(tmp_path / 'history.csv')
    learn.fit(3, 0.01, cbs=[*plateau_cbs(patience=1, factor=10.0), Script([1.0, 1.0, 1.0]), history])
    np.testing.assert_allclose(pd.read_csv(tmp_path / 'history.csv').lr, [0.01, 0.01, 0.001])
