import signal
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.learner import Learner
from fastai.torch_core import num_distrib, rank_distrib, set_seed
from tiny import TINY, tiny_dls, tiny_net
from torch import Tensor, nn
from two import on_two

from callbacks.checkpoint import load_checkpoint
from config.recipes import Recipe, recipe_for
from data.loaders import get_dls
from runtime.errors import UserError
from runtime.processes import first_on_its_machine, gathered, highest, on_rank0, one_of_several
from training.distributed import put_back
from training.fit import fit
from training.learner import get_learner
from training.lr_finder import find_lr

DROPOUT = replace(TINY, dropout=0.5, patience=1)
# the settings of speedrun and hour, except their network
PARTS = {'schedule': 'triangle', 'lookahead': True, 'test_views': True}
PARTS |= {'alternating_flip': True, 'bias_lr': 64.0, 'muon': 0.5}


def without_norms(n_out: int) -> nn.Module:
    """A network without BatchNorm, whose statistics are shared on GPUs only: each image's output is independent."""
    convs = nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()
    return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, n_out))


def make(data, recipe: Recipe, run: Path, norms: bool = False, seed: int = 0, **options) -> Learner:
    (run / 'models').mkdir(parents=True, exist_ok=True)
    learn = get_learner(get_dls(data, recipe, num_workers=0, **options), recipe, run)
    set_seed(seed)
    n_out = len(learn.dls.vocab)
    learn.model = tiny_net(n_out, recipe.last_stride, recipe.dropout) if norms else without_norms(n_out)
    return learn


def train(data, recipe, run, epochs=2, lr=0.05, cbs=(), resume=False, minutes=60.0, **options):
    """Return the history, this process's weights and, if the training was stopped, its epoch and batch."""
    learn, history, stopped = make(data, recipe, run, **options).add_cbs(cbs), None, None
    try:
        history = fit(learn, epochs, lr, minutes, resume)
    except KeyboardInterrupt:
        stopped = learn.epoch, learn.iter
    return history, {name: v.as_subclass(Tensor) for name, v in learn.model.state_dict().items()}, stopped


def assert_same_losses(a: pd.DataFrame, b: pd.DataFrame, atol: float = 1e-4):
    a, b = (o.drop(columns='seconds') for o in (a, b))
    pd.testing.assert_frame_equal(a, b, rtol=0, atol=atol, check_dtype=False)


def assert_same(a: dict, b: dict, atol: float = 0):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=atol)


def test_two_processes_have_the_losses_of_one_on_the_digits(tmp_path):
    recipe, run = recipe_for('digits'), tmp_path / 'two'
    alone, weights, _ = train('digits', recipe, tmp_path / 'one')
    (history, mine, _), (theirs, others, _) = on_two(train, 'digits', recipe, run, minutes=0)
    assert alone.valid_accuracy[1] > 0.3
    assert_same_losses(history, alone)
    assert_same_losses(theirs, history, 0)
    assert_same(mine, weights, 1e-4)
    assert_same(mine, others)
    assert_same(torch.load(run / 'models/best.pth', weights_only=True), mine)  # the names are the unwrapped model's
    assert load_checkpoint(run / 'models')['model'].keys() == weights.keys()
    written = sorted(file.relative_to(run).as_posix() for file in run.rglob('*.*'))
    assert written == ['history.csv', 'models/best.pth', 'models/last.previous.pth', 'models/last.pth']


@pytest.mark.parametrize('valid', [0.125, 0.25, 0.3])  # 3, 6 and 7 images in batches of 4: not all ranks have the last
def test_each_image_is_validated_once_by_the_saved_model(folder, tmp_path, valid):
    options = {'bs': 4, 'valid': valid}
    (history, weights, _), (theirs, _, _) = on_two(train, folder, TINY, tmp_path / 'run', 1, norms=True, **options)
    model, dls = tiny_net(3, TINY.last_stride, 0.0).eval(), tiny_dls(folder, **options)
    model.load_state_dict(weights)
    x, y = (torch.cat(o).as_subclass(Tensor) for o in zip(*dls.valid, strict=True))
    assert len(y) == {0.125: 3, 0.25: 6, 0.3: 7}[valid]
    with torch.no_grad():
        out = model(x)
    loss = nn.functional.cross_entropy(out, y, label_smoothing=TINY.label_smoothing)
    assert history.valid_loss[0] == theirs.valid_loss[0] == pytest.approx(loss.item(), abs=1e-6)
    assert history.valid_accuracy[0] == pytest.approx((out.argmax(1) == y).float().mean().item())


@pytest.mark.parametrize('size', [None, 24])  # augmented in batches, and resized image by image
def test_speedruns_settings_train_the_same_on_two_processes(folder, tmp_path, size):
    options, recipe = {'bs': 4, 'valid': 0, 'size': size}, replace(TINY, **PARTS)
    alone, weights, _ = train(folder, recipe, tmp_path / 'one', 3, **options)
    (history, mine, _), (_, others, _) = on_two(train, folder, recipe, tmp_path / 'two', 3, **options)
    assert_same_losses(history, alone)
    assert_same(mine, others)
    assert_same(mine, weights, 1e-4)


class Press(Callback):
    """Press Ctrl-C on rank 1 in `event` of an epoch and batch."""

    def __init__(self, event, epoch, batch):
        self.at, self.where = event, (epoch, batch)

    def __call__(self, event_name):
        if event_name == self.at and (self.learn.epoch, self.learn.iter) == self.where and rank_distrib() == 1:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(('recipe', 'valid', 'last', 'place'), [
    (DROPOUT, 0.25, 3, (1, 0)),  # in validation
    (replace(DROPOUT, **PARTS), 0, 5, (1, 5)),  # without validation
])  # fmt: skip
@pytest.mark.usefixtures('handlers')
def test_all_ranks_stop_after_the_same_batch_and_resume(folder, tmp_path, recipe, valid, last, place):
    options, run = {'epochs': 3, 'bs': 4, 'valid': valid, 'norms': True}, tmp_path / 'run'
    whole, weights, _ = on_two(train, folder, recipe, tmp_path / 'whole', **options)[0]
    ends = on_two(train, folder, recipe, run, cbs=[Press('after_pred', 0, 1)], **options)
    assert [stopped for _, _, stopped in ends] == [(0, 1)] * 2
    ends = on_two(train, folder, recipe, run, cbs=[Press('after_train', 1, last)], resume=True, seed=8, **options)
    assert [stopped for _, _, stopped in ends] == [place] * 2
    state = load_checkpoint(run / 'models')
    assert (state['epoch'], state['batch']) == (1, last + 1)
    assert not torch.equal(*(random['torch_state'] for random in state['random']))
    history, mine, _ = on_two(train, folder, recipe, run, resume=True, seed=9, **options)[0]
    assert_same_losses(history, whole, 0)
    assert_same(mine, weights)


@pytest.mark.usefixtures('handlers')
def test_resume_works_with_another_number_of_processes(folder, tmp_path):
    options = {'epochs': 3, 'bs': 4, 'valid': 0.25}
    whole, weights, _ = train(folder, TINY, tmp_path / 'whole', **options)
    on_two(train, folder, TINY, tmp_path / 'a', cbs=[Press('after_pred', 1, 1)], **options)
    train(folder, TINY, tmp_path / 'b', **{**options, 'epochs': 1})
    one = train(folder, TINY, tmp_path / 'a', resume=True, **options)
    two = on_two(train, folder, TINY, tmp_path / 'b', resume=True, **options)[0]
    for history, mine, _ in (one, two):
        assert_same_losses(history, whole)
        assert_same(mine, weights, 1e-4)


class Poison(Callback):
    """Set the images of one of rank 1's batches to NaN."""

    def before_batch(self):
        if self.training and (self.epoch, self.iter) == (1, 2) and rank_distrib() == 1:
            self.learn.xb = (self.x * float('nan'),)


def test_a_nan_loss_on_one_rank_stops_all(folder, tmp_path):
    ends = on_two(train, folder, TINY, tmp_path / 'run', 3, cbs=[Poison()], bs=4, valid=0.25)
    assert [list(history.epoch) for history, _, _ in ends] == [[0]] * 2


def swept(folder, run):
    learn = make(folder, TINY, run, bs=4, valid=0.25)
    sweep = on_rank0(find_lr)(learn)
    return sweep, learn.opt is None


def test_rank_0_sweeps_for_all(folder, tmp_path):
    (sweep, _), (theirs, untouched) = on_two(swept, folder, tmp_path)
    assert sweep == theirs
    assert untouched
    assert sweep.lr == find_lr(make(folder, TINY, tmp_path, bs=4, valid=0.25)).lr


def exchanged():
    def alone(a, b):
        return a, b, num_distrib(), rank_distrib()

    return on_rank0(alone)(1, b=2), num_distrib(), gathered(f'rank {rank_distrib()}'), highest(rank_distrib())


def test_ranks_exchange_values():
    assert on_two(exchanged) == [((1, 2, 1, 0), 2, ['rank 0', 'rank 1'], 1)] * 2
    assert exchanged() == ((1, 2, 0, 0), 0, ['rank 0'], 0)


def write_once(file: Path):
    with first_on_its_machine():
        there = file.exists()
        file.touch()
    return there


def test_the_first_process_on_a_machine_runs_first(tmp_path):
    assert on_two(write_once, tmp_path / 'file') == [False, True]


def test_without_accelerate_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setattr('runtime.processes.find_spec', lambda name: None)
    with pytest.raises(UserError, match=r'^training on 2 processes needs Accelerate: pip install accelerate$'):
        on_rank0(int)()


def test_one_process_where_several_were_asked_for_is_an_error(monkeypatch):
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')  # as `accelerate launch --cpu --num_processes 2` does
    monkeypatch.setenv('ACCELERATE_MIXED_PRECISION', 'no')
    with pytest.raises(UserError, match='pass it --multi_gpu'), one_of_several():
        pass


def test_a_batch_that_cannot_be_shared_is_an_error(folder, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '3')
    with pytest.raises(UserError, match=r"^bs 4 can't be shared evenly by 3 processes: choose a multiple of that$"):
        tiny_dls(folder)


def test_sync_batchnorms_are_replaced_by_the_original_ones():
    model = tiny_net(3, 2, 0.0)
    names, parameters = list(model.state_dict()), list(model.parameters())
    norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(model).eval()
    assert list(synced.state_dict()) == names
    synced.layer1[1].running_mean = torch.ones(4)  # a new tensor
    put_back(synced, norms)
    assert dict(synced.named_modules()).items() >= norms.items()
    assert all(a is b for a, b in zip(synced.parameters(), parameters, strict=True))
    assert torch.equal(synced.layer1[1].running_mean, torch.ones(4))
    assert not synced.layer1[1].training


def test_two_processes_freeze_the_body_first(folder, tmp_path):
    recipe = replace(TINY, schedule='finetune', frozen=1)
    (_, mine, _), (_, others, _) = on_two(train, folder, recipe, tmp_path / 'two', epochs=3, norms=True, valid=0.25)
    assert_same(*({name: v for name, v in o.items() if 'fc' in name or '0.weight' in name} for o in (mine, others)))
