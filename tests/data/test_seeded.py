import random
from collections import Counter
from dataclasses import replace
from itertools import combinations, repeat

import albumentations as A
import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from PIL import Image
from tiny import TINY, tiny_dls

from data import examine, loaders
from data.augment import get_transforms
from data.batched_loader import BatchedDL
from data.seeded_loader import ImageDL, batch_at


def batches(dl):
    return [(x.clone(), y) for x, y in dl]


def assert_same(one, other):
    for (x, y), (x_other, y_other) in zip(one, other, strict=True):
        assert torch.equal(x, x_other)
        assert torch.equal(y, y_other)
        assert (type(x), type(y)) == (type(x_other), type(y_other))


@pytest.fixture
def undecoded(monkeypatch):
    """A function that makes loaders whose images are decoded in each epoch."""

    def make(folder, **kwargs):
        with monkeypatch.context() as m:
            m.setattr(examine, 'total_memory', lambda: 0)
            return tiny_dls(folder, **kwargs)

    return make


def test_batches_are_the_same_from_decoded_pixels_and_from_files(folder, undecoded):
    dls, slow = tiny_dls(folder), undecoded(folder)
    dls.train.epoch = slow.train.epoch = 2
    assert dls.train.pixels is not None
    assert slow.train.pixels is None
    for dl, other in zip(dls.loaders, slow.loaders, strict=True):
        assert_same(batches(dl), batches(other))


def test_a_fraction_reads_the_pixels_of_its_files(folder, undecoded):
    dls, slow = tiny_dls(folder, fraction=0.5), undecoded(folder, fraction=0.5)
    for dl, other in zip(dls.loaders[1:], slow.loaders[1:], strict=True):
        assert_same(batches(dl), batches(other))


def test_draws_do_not_depend_on_the_batch_size(folder):
    seen = []
    for bs in (2, 6):
        dls = tiny_dls(folder, bs=bs)
        dls.train.epoch = 5
        seen.append(torch.cat([x for x, _ in batches(dls.train)]))
    assert torch.equal(*seen)  # 18 images


def test_skipping_batches_keeps_the_others(folder):
    dls = tiny_dls(folder)
    dls.train.epoch = 1
    whole = batches(dls.train)
    dls.train.skip = 3
    assert_same(batches(dls.train), whole[3:])


def test_batches_that_are_made_at_once_are_the_same(folder, monkeypatch):
    dls = tiny_dls(folder)
    dls.train.epoch = 1
    each = [batches(dl) for dl in dls.loaders]
    assert [len(o) for o in each] == [len(dl) for dl in dls.loaders]
    monkeypatch.setattr(BatchedDL, 'ahead', 3)
    for dl, expected in zip(dls.loaders, each, strict=True):
        assert_same(batches(dl), expected)
    assert_same([dls.train.one_batch()], [next(iter(dls.train))])
    dls.train.skip = 2
    assert_same(batches(dls.train), each[0][2:])


def test_a_batch_from_decoded_pixels_is_the_one_made_item_by_item(folder):
    dls = tiny_dls(folder)
    dls.train.epoch = 0
    x, y = next(iter(dls.train))
    idxs = dls.train.get_idxs  # from the same random stream
    dls.train.before_iter()
    assert_same([batch_at(dls.train, idxs()[:4])], [(x, y)])


def test_an_epoch_keeps_the_global_random_states(folder):
    dls = tiny_dls(folder)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    batches(dls.train)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == expected


def test_every_item_comes_once_an_epoch_with_its_own_label(folder):
    dls = tiny_dls(folder, bs=6)
    labels = torch.cat([y for _, y in batches(dls.train)])
    assert Counter(labels.tolist()) == {0: 6, 1: 6, 2: 6}
    for x, y in dls[2]:  # each class (blue, green, red) has its channel as the highest
        assert (2 - x.mean((2, 3)).argmax(1)).tolist() == y.tolist()


def test_other_items_are_decoded_on_demand(folder, tmp_path):
    dls = tiny_dls(folder)
    Image.new('RGB', (16, 16), (255, 0, 0)).save(tmp_path / 'new.png')
    dl = dls.test_dl([tmp_path / 'new.png', dls[2].dataset.items[3]])
    assert dl.pixels is None
    (x,) = next(iter(dl))
    mean, std = (torch.tensor(o)[:, None, None] for o in (TINY.mean, TINY.std))
    red = torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 16, 16)
    torch.testing.assert_close(torch.Tensor(x[0]), (red - mean) / std, rtol=1e-5, atol=1e-6)
    assert torch.equal(x[1], batch_at(dls[2], [3])[0][0])


def test_predict_takes_a_file_and_an_array(folder, learner):
    learn = learner()
    file = learn.dls[2].dataset.items[0]
    with learn.no_bar():
        by_file, by_array = learn.predict(file), learn.predict(np.asarray(Image.open(file)))
    assert by_file[0] == by_array[0]
    assert torch.equal(by_file[2], by_array[2])
    preds, _ = learn.get_preds(dl=learn.dls[2])
    torch.testing.assert_close(by_file[2], preds[0])


def test_a_transform_without_batched_version_runs_image_by_image(folder, monkeypatch, capsys):
    plain = batches(tiny_dls(folder).valid)
    assert capsys.readouterr().out == ''
    monkeypatch.setattr(loaders, 'get_transforms', rotating)
    dls = tiny_dls(folder)
    assert capsys.readouterr().out == 'augmenting image by image: Rotate has no batched version\n'
    assert isinstance(dls.train, ImageDL)
    assert_same(batches(dls.valid), plain)
    dls.train.epoch = 0
    again = tiny_dls(folder, bs=6)
    again.train.epoch = 0
    assert torch.equal(torch.cat([x for x, _ in dls.train]), torch.cat([x for x, _ in again.train])[:16])
    first, other = batch_at(dls.train, [0, 0])[0]
    assert not torch.equal(first, other)


@pytest.mark.slow
def test_two_workers_give_the_same_batches_from_files(folder, undecoded):
    epochs = []
    for workers in (0, 2):
        dls = undecoded(folder, num_workers=workers)
        dls.train.epoch = 3
        epochs.append(batches(dls.train))
    assert_same(*epochs)


def test_a_plain_learner_accepts_the_loaders(folder):
    dls = tiny_dls(folder)
    assert isinstance(dls.train, BatchedDL)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 3))
    learn = Learner(dls, model, loss_func=CrossEntropyLossFlat(), path=folder)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    learn.show_results(max_n=2)
    assert dls.train.n_inp == 1


def test_every_second_epoch_flips_the_other_images(folder):
    dls = tiny_dls(folder, replace(TINY, pad=0.0, hole=0.0, alternating_flip=True))
    plain = torch.cat([x for (x,) in dls.test_dl(dls.train.dataset.items)])
    flips = []
    for epoch in range(6):
        dls.train.epoch = epoch
        x, _ = batch_at(dls.train, range(len(plain)))
        kept, flipped = ((x == o).flatten(1).all(1) for o in (plain, plain.flip(3)))
        assert (kept ^ flipped).all()
        flips.append(flipped)
    for even in 0, 2, 4:
        assert torch.equal(flips[even + 1], ~flips[even])
        assert 0 < flips[even].sum() < len(plain)
    assert not torch.equal(flips[0], flips[2])
    assert not torch.equal(flips[2], flips[4])


def rotating(*args):
    """A training Compose without batched version."""
    train, valid = get_transforms(*args)
    return A.Compose([A.Rotate(), *train.transforms]), valid


@pytest.mark.parametrize('batched', [True, False])
def test_show_batch_unique_augments_differently_and_training_continues(folder, monkeypatch, batched):
    if not batched:
        monkeypatch.setattr(loaders, 'get_transforms', rotating)
    dls, untouched = tiny_dls(folder), tiny_dls(folder)
    assert isinstance(dls.train, BatchedDL) == batched
    samples = dls.show_batch(unique=True, show=False, max_n=4)[2]
    assert {str(y) for _, y in samples} == {str(dls.vocab[dls.train_ds[0][1]])}
    assert all(not torch.equal(one[0], other[0]) for one, other in combinations(samples, 2))
    dls.show_batch(unique=True, nrows=1)
    with pytest.raises(TypeError):
        dls.show_batch(unique=True, ctxs=3)
    dls.train.epoch = untouched.train.epoch = 1
    assert_same(batches(dls.train), batches(untouched.train))


def test_an_endless_sampler_is_read_only_as_far_as_needed(folder):
    dl = tiny_dls(folder).train
    dl.get_idxs = lambda: repeat(3)
    assert dl.one_batch()[1].tolist() == [dl.labels[3]] * 4


def test_each_pass_of_tta_gets_new_draws(learner):
    learn, passes = learner(replace(TINY, pad=0.5)), []

    class Keep(Callback):
        def after_pred(self):
            passes.append((self.dl.after_batch.split_idx, self.x.clone()))

    with learn.no_bar(), learn.added_cbs(Keep()):
        learn.tta(dl=learn.dls.valid.new(bs=64), n=3)
    augmented = [x for split, x in passes if split == 0]
    assert [split for split, _ in passes] == [0, 0, 0, 1]
    assert all(not torch.equal(one, other) for one, other in combinations(augmented, 2))
