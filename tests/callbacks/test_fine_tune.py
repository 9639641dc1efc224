from dataclasses import replace
from math import cos, pi

import pytest
import torch
from fastai.callback.core import Callback
from fastai.torch_core import set_seed
from tiny import TINY

from callbacks.checkpoint import load_checkpoint
from callbacks.fine_tune import FineTune
from runtime.tensor_file import save_tensors
from train_fastai import find_lr, fit

RECIPE = replace(TINY, schedule='finetune', frozen=1, body_lr=0.5, adamw=True, dropout=0.5)
EPOCHS = 3  # of 4 batches


class Note(Callback):
    """Note the names of the weights that each epoch has changed, and each batch's rates."""

    order = 100

    def before_fit(self):
        self.changed, self.lrs = [], []

    def before_train(self):
        self.before = {name: v.clone() for name, v in self.model.state_dict().items()}

    def after_batch(self):
        if self.training:
            self.lrs.append([h['lr'] for h in self.opt.hypers])

    def after_train(self):
        now = self.model.state_dict()
        self.changed.append({name for name, v in now.items() if not torch.equal(v, self.before[name])})


def half_cosine(start, end, share):
    return start + (end - start) * (1 - cos(pi * share)) / 2


def test_the_last_layer_trains_first_and_batchnorm_keeps_its_statistics(learner):
    learn, note = learner(RECIPE), Note()
    fit(learn, EPOCHS, 0.01, cbs=[note])
    parameters = {name for name, _ in learn.model.named_parameters()}
    assert note.changed[0] == {'fc.weight', 'fc.bias'}
    assert note.changed[1] == note.changed[2] == parameters  # so no running mean, variance or count
    assert all(p.requires_grad for p in learn.model.parameters())


def test_the_rates_are_those_of_fastais_fine_tune(learner):
    learn, note = learner(RECIPE), Note()
    fit(learn, EPOCHS, 0.01, cbs=[note])
    frozen = [half_cosine(0.0004, 0.01, i / 4 / 0.99) for i in range(4)]  # from 1/25 of the peak
    cycle = [half_cosine(0.001, 0.005, i / 8 / 0.3) for i in range(3)]  # a fifth of half the peak, until 30%
    cycle += [half_cosine(0.005, 0.005 / 1e5, (i / 8 - 0.3) / 0.7) for i in range(3, 8)]
    assert [head for _, head in note.lrs] == pytest.approx(frozen + cycle)
    assert [body for body, _ in note.lrs] == pytest.approx([lr / 2 for lr in frozen + cycle])


def test_from_scratch_all_layers_and_batchnorms_statistics_train_from_the_start(learner):
    learn, note = learner(replace(RECIPE, frozen=0)), Note()
    fit(learn, EPOCHS, 0.01, cbs=[note])
    assert note.changed[0] == {*learn.model.state_dict()}
    assert [head for _, head in note.lrs][:2] == pytest.approx([0.001, half_cosine(0.001, 0.005, 1 / 12 / 0.3)])


def test_one_epoch_trains_all_layers(learner):
    learn, note = learner(replace(RECIPE, frozen=5)), Note()
    fit(learn, 1, 0.01, cbs=[note])
    assert 'layer1.0.weight' in note.changed[0]


def test_the_sweep_is_of_the_last_layer_in_a_tenth_of_the_batches(learner):
    learn = learner(replace(RECIPE, epochs=50))
    changed, plain = set(), learn.model.state_dict
    before = {name: v.clone() for name, v in plain().items()}

    class Watch(Callback):
        def after_step(self):
            changed.update(name for name, p in learn.model.named_parameters() if not torch.equal(p, before[name]))

    learn.add_cb(Watch())
    sweep = find_lr(learn)
    assert changed == {'fc.weight', 'fc.bias'}
    assert len(sweep.lrs) <= 50 * 4 // 10
    assert all(p.requires_grad for p in learn.model.parameters())
    assert all(torch.equal(v, before[name]) for name, v in plain().items())


class Killed(BaseException):
    """Simulates a kill: nothing catches it."""


@pytest.mark.parametrize(('epoch', 'batch'), [(0, 2), (0, 3), (1, 0), (1, 2)])
def test_a_killed_training_ends_the_same_after_resume(learner, epoch, batch):
    class Kill(Callback):
        order = 100

        def after_step(self):
            if (self.epoch, self.iter) == (epoch, batch):
                raise Killed

    def make(seed):
        set_seed(seed)
        return learner(RECIPE)

    whole = make(0)
    fit(whole, EPOCHS, 0.01)
    killed = make(0)
    with pytest.raises(Killed):
        fit(killed, EPOCHS, 0.01, checkpoint_minutes=0, cbs=[Kill()])
    learn = make(1)
    learn.path = killed.path
    fit(learn, EPOCHS, 0.9, resume=True)
    for (name, a), b in zip(learn.model.state_dict().items(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize('changes', [
    {}, {'schedule': 'triangle', 'bias_lr': 64.0, 'muon': 0.2},
])  # fmt: skip
def test_a_checkpoint_without_a_group_for_the_last_layer_resumes_to_the_same_bits(learner, changes):
    """As earlier versions wrote it: the last layer's parameters at the end of the last group."""

    def make():
        set_seed(0)
        return learner(replace(TINY, **changes))

    whole = make()
    fit(whole, EPOCHS, 0.05)
    learn = make()

    class Kill(Callback):
        order = 100

        def before_batch(self):
            if (self.epoch, self.iter) == (1, 2):
                raise Killed

    with pytest.raises(Killed):
        fit(learn, EPOCHS, 0.05, checkpoint_minutes=0, cbs=[Kill()])
    state = load_checkpoint(learn.path / 'models')
    *groups, body, head = state['opt']['param_groups']
    assert head['params'] == list(range(body['params'][-1] + 1, body['params'][-1] + 3))
    state['opt']['param_groups'] = [*groups, {**body, 'params': body['params'] + head['params']}]
    if changes:
        state['callbacks']['triangle']['lrs'].pop()
    save_tensors(state, learn.path / 'models/last.pth')
    fit(learn, EPOCHS, 0.05, resume=True)
    for (name, a), b in zip(learn.model.state_dict().items(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_rates_of_another_number_of_epochs(learner):
    learn, schedule = learner(RECIPE), FineTune([1.0], 2)
    learn.n_epoch, schedule.learn = 4, learn
    assert [schedule.scheds['lr'](done)[0] for done in (0, 2, 2.6)] == pytest.approx([1 / 25, 0.1, 0.5])
