"""Every call on dls, learn and interp in fastbook and fastai's vision tutorial, compared with fastai's own classes.

Both use the same images, weights, loss and normalisation, and no augmentation.
"""

import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastai.vision import all as fastai_vision
from fastai.vision.all import (
    CategoryBlock,
    ClassificationInterpretation,
    CrossEntropyLossFlat,
    DataBlock,
    GrandparentSplitter,
    ImageBlock,
    Learner,
    Normalize,
    TensorBase,
    accuracy,
    get_image_files,
    imagenet_stats,
    parent_label,
    set_seed,
    vision_learner,
)
from matplotlib import pyplot as plt
from tiny import TINY, tiny_dls, tiny_net, write_images
from torch import nn

from data import loaders
from data.batched.compose import Unbatchable
from interpret.interpretation import GradCAMInterpretation
from training.learner import get_learner

PLAIN = replace(TINY, pad=0.0, flip=0.0, hole=0.0, label_smoothing=0.0)

# Source, comparison, call. A source is a chapter of fastbook (https://github.com/fastai/fastbook), T for its vision
# tutorial (https://docs.fast.ai/tutorial.vision), or L for its reference (docs.fast.ai/learner, interpret, data.core).
# `=` compares values and pictures; `~` compares types, shapes and numbers of axes, for calls that are random or use
# another optimiser; `|` compares the number of images, since ours add Grad-CAM columns. Calls that train come last.
CALLS = """
    7 = dls.c
    2 = list(dls.vocab)
    5 = len(dls.vocab)
    L = dls.vocab.o2i
    L = len(dls.train), len(dls.valid), len(dls.train_ds), len(dls.valid_ds)
    L = dls.bs, dls.device, dls.n_inp, dls.path
    L ~ dls.train_ds[0]
    T = dls.valid_ds[0][1]
    5 ~ dls.one_batch()
    7 ~ [(x.mean(dim=[0,2,3]), x.std(dim=[0,2,3])) for x, y in [dls.one_batch()]]
    L = dls.valid.one_batch()
    L = [str(y) for x, y in dls.valid.decode_batch(dls.valid.one_batch())]
    T ~ dls.show_batch()
    5 ~ dls.show_batch(nrows=1, ncols=3)
    5 ~ dls.show_batch(max_n=4, figsize=(6, 9))
    2 = dls.valid.show_batch(max_n=4, nrows=1)
    2 = dls.train.show_batch(max_n=4, nrows=1, unique=True)
    2 = dls.train.show_batch(max_n=8, nrows=2, unique=True)
    L ~ [len(b) for b in dls.train]
    L = dls.test_dl([file, file]).one_batch()
    L = dls.test_dl([file, file], with_labels=True).one_batch()
    L = [str(f) for f in dls.valid.items]
    T = learn.predict(file)
    1 = learn.predict(PILImage.create(file))
    1 = [f'{probs[1].item():.4f}' for _, _, probs in [learn.predict(file)]]
    L = learn.get_preds()
    L = learn.get_preds(with_input=True, with_loss=True, with_decoded=True)
    L = learn.get_preds(dl=dls.test_dl([file] * 5))
    L = learn.get_preds(ds_idx=1, act=noop)
    5 = learn.get_preds(dl=[dls.valid.one_batch()])
    5 = [(len(preds[0]), preds[0].sum()) for preds, _ in [learn.get_preds(dl=[dls.valid.one_batch()])]]
    L = list(learn.validate())
    7 = learn.tta()
    7 = accuracy(*learn.tta()).item()
    7 = learn.tta(n=2, use_max=True)
    1 ~ learn.show_results()
    1 ~ learn.show_results(max_n=6, figsize=(7, 8))
    L = learn.show_results(max_n=3, shuffle=False)
    2 = interp.plot_confusion_matrix()
    5 = interp.plot_confusion_matrix(figsize=(12, 12), dpi=60)
    L = interp.plot_confusion_matrix(normalize=True, title='Mistakes', cmap='Greens', norm_dec=1)
    L = interp.confusion_matrix()
    5 = interp.most_confused(min_val=2)
    L = interp.print_classification_report()
    L = interp.top_losses(4)
    L = interp.top_losses(4, largest=False)
    L = interp.top_losses(3, items=True)
    L = interp[[0, 3]]
    L = interp.show_results([1, 2])
    2 | interp.plot_top_losses(5, nrows=1)
    T | interp.plot_top_losses(9, figsize=(15, 10))
    2 | interp.plot_top_losses(9, nrows=3)
    L | interp.plot_top_losses(4, ncols=2, largest=False)
    L | interp.plot_top_losses(range(3))
    L = type(interp).from_learner(learn, ds_idx=1).losses
    L = type(interp).from_learner(learn, 1).losses
    L = type(interp).from_learner(learn, dl=dls.valid).losses
    T = ClassificationInterpretation.from_learner(learn).plot_top_losses(9, figsize=(15, 10))
    T = Interpretation.from_learner(learn).plot_top_losses(4)
    2 = [[str(file), dls.vocab[t], loss.item()] for file, t, loss in cleaner(learn, 1)]
    2 ~ len(cleaner(learn, 0))
    2 = learn.export()
    2 = load_learner(learn.path/'export.pkl').predict(file)
    2 = list(load_learner(learn.path/'export.pkl').dls.vocab)
    L = learn.save('stage-1').name
    L ~ learn.load('stage-1').dls.c
    T ~ learn.lr_find(num_it=20)
    5 ~ learn.lr_find(num_it=30, suggest_funcs=(minimum, steep))
    1 ~ learn.fine_tune(1)
    5 ~ learn.fine_tune(2, base_lr=3e-3)
    5 ~ learn.fine_tune(2, freeze_epochs=3)
    7 ~ learn.fine_tune(1, 1e-3)
    5 ~ learn.fit_one_cycle(1, 3e-3)
    5 ~ learn.freeze()
    5 ~ learn.unfreeze()
    5 ~ learn.fit_one_cycle(2, lr_max=1e-5)
    5 ~ learn.fit_one_cycle(1, lr_max=slice(1e-6, 1e-4))
    L ~ learn.fit(1)
    L ~ learn.fit_flat_cos(1)
    5 ~ learn.recorder.plot_loss()
    L ~ learn.recorder.plot_sched()
    L ~ learn.summary()
    L ~ [cb.name for cb in learn.to_fp16().cbs if 'mixed' in cb.name]
    L ~ [cb.name for cb in learn.to_fp32().cbs if 'mixed' in cb.name]
    L ~ learn.to_channelslast(use_amp=False).dls.c
    7 ~ learn.add_cb(MixUp()).fit_one_cycle(1)
    7 ~ learn.remove_cb(MixUp).fit_one_cycle(1)
    7 ~ Learner(dls, net(), loss_func=LabelSmoothingCrossEntropy(), metrics=accuracy).fit_one_cycle(1, 3e-3)
    1 ~ vision_learner(dls, arch, pretrained=False, metrics=error_rate).fine_tune(1)
    5 ~ vision_learner(dls, arch, pretrained=False, metrics=error_rate).to_fp16().dls.c
"""
CALLS = [tuple(line.split(maxsplit=2)) for line in CALLS.strip().splitlines()]


def cleaner(learn, ds_idx):
    """ImageClassifierCleaner's `_get_iw_info`, copied from fastai.vision.widgets, whose import needs ipywidgets."""
    dl = learn.dls[ds_idx].new(shuffle=False, drop_last=False)
    _, targs, _, losses = learn.get_preds(dl=dl, with_input=False, with_loss=True, with_decoded=True)
    return list(zip(dl.dataset.items, targs, losses, strict=True))


def arch(pretrained):
    """A network that `vision_learner` can cut: body, pooling, head."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def net():
    torch.manual_seed(0)
    model = tiny_net(3, 2, 0.0)
    model.fc.weight.data *= 20  # so that predictions differ between classes
    return model


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """Returns a function that makes the names used by the calls, for ours or fastai's; each kind is made once."""
    made, root = {}, tmp_path_factory.mktemp('conformance')
    folder = write_images(root / 'images')

    def names(kind, dls, learn, interp):
        learn.path = root / kind
        learn.path.mkdir()
        file = dls.valid_ds.items[0]
        own = {'dls': dls, 'learn': learn, 'interp': interp.from_learner(learn), 'file': file}
        return vars(fastai_vision) | own | {'cleaner': cleaner, 'net': net, 'arch': arch}

    def make(kind):
        if kind in made:
            return made[kind]
        set_seed(0)  # from some weights a sweep diverges at once, and fastai's suggestion raises IndexError
        if kind == 'fastai':
            norm = Normalize.from_stats(PLAIN.mean, PLAIN.std, cuda=False)
            block = DataBlock(
                (ImageBlock, CategoryBlock),
                get_items=lambda path: sorted(get_image_files(path)),
                splitter=GrandparentSplitter(valid_name='test'),
                get_y=parent_label,
                batch_tfms=norm,
            )
            dls = block.dataloaders(folder, path=folder, bs=4, num_workers=0, device=torch.device('cpu'))
            learn = Learner(dls, net(), loss_func=CrossEntropyLossFlat(), metrics=accuracy)
            made[kind] = names(kind, dls, learn, ClassificationInterpretation)
        else:
            with pytest.MonkeyPatch.context() as patched:
                if kind == 'item by item':
                    patched.setattr(loaders, 'BatchedTransform', refuse)
                dls = tiny_dls(folder, PLAIN, valid='test')
            monkeypatch.setattr('training.learner.get_model', lambda *args: net())
            made[kind] = names(kind, dls, get_learner(dls, path=root), GradCAMInterpretation)
        return made[kind]

    monkeypatch = pytest.MonkeyPatch()
    yield make
    monkeypatch.undo()


@pytest.fixture(scope='module')
def fastai_results():
    return {}


def refuse(*args):
    raise Unbatchable('this test')


def result(call, names, capsys):
    """The return value of `call`, and pyplot's figures: each axes' images and title, and the figure sizes."""
    plt.close('all')
    set_seed(0)
    random.seed(0)
    capsys.readouterr()
    value = eval(call, dict(names))
    figures = [plt.figure(i) for i in plt.get_fignums()]
    shown = [(a.get_title(), [np.asarray(i.get_array(), float) for i in a.images]) for f in figures for a in f.axes]
    return SimpleNamespace(value=value, shown=shown, sizes=[f.get_size_inches().tolist() for f in figures])


def assert_alike(ours, theirs, exact):
    """Ours has the type of fastai's (or a subclass) and its shape; with `exact`, also its value."""
    if theirs is None:
        return
    if hasattr(theirs, '_fields'):  # a namedtuple created by the call
        assert ours._fields == theirs._fields
    elif type(theirs) is not TensorBase:  # our interpretation uses plain tensors
        assert isinstance(ours, type(theirs)), (type(ours), type(theirs))
    if isinstance(theirs, torch.Tensor):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        if exact:
            torch.testing.assert_close(torch.Tensor(ours), torch.Tensor(theirs), rtol=1e-4, atol=1e-4)
    elif isinstance(theirs, np.ndarray):
        assert ours.shape == theirs.shape
        if exact:
            np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    elif isinstance(theirs, list | tuple) or type(theirs).__name__ == 'L':
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_alike(one, other, exact)
    elif isinstance(theirs, float):
        assert not exact or ours == pytest.approx(theirs, rel=1e-4)
    elif exact:
        assert ours == theirs


@pytest.mark.parametrize('kind', ['batched', 'item by item'])
@pytest.mark.parametrize(('source', 'how', 'call'), CALLS, ids=[call for *_, call in CALLS])
def test_a_call_gives_the_same_result_as_in_fastai(pair, fastai_results, kind, source, how, call, capsys):
    if call not in fastai_results:  # run once, since later calls train
        fastai_results[call] = result(call, pair('fastai'), capsys)
    theirs, ours = fastai_results[call], result(call, pair(kind), capsys)
    if how == '|':  # ours returns its figure, with a column per layer, instead of using pyplot's current one
        titles = [t for t in (ax.get_title('left') for ax in ours.value.axes) if t.startswith('predicted')]
        assert len(titles) == len(theirs.shown)
        return
    assert_alike(ours.value, theirs.value, how == '=')
    assert len(ours.shown) == len(theirs.shown)
    assert ours.sizes == theirs.sizes
    for (title, images), (their_title, their_images) in zip(ours.shown, theirs.shown, strict=True):
        assert len(images) == len(their_images)
        if how == '=':
            assert title == their_title
            for image, other in zip(images, their_images, strict=True):
                assert image.shape == other.shape
                np.testing.assert_allclose(image / image.max(), other / other.max(), atol=0.02)


@pytest.mark.parametrize('kind', ['batched', 'item by item'])
def test_vision_learner_does_not_normalise_again(pair, kind, monkeypatch):
    stats = {'cut': None, 'split': fastai_vision.default_split, 'stats': imagenet_stats}
    monkeypatch.setitem(fastai_vision.model_meta, arch, stats)
    dls = pair(kind)['dls']
    before, shown = dls.valid.one_batch()[0], dls.valid._pre_show_batch(dls.valid.one_batch())[2][0][0]
    dls.after_batch.fs, kept = dls.after_batch.fs.copy(), dls.after_batch.fs
    try:
        learn = vision_learner(dls, arch)
        assert torch.equal(learn.dls.valid.one_batch()[0], before)
        assert torch.equal(dls.valid._pre_show_batch(dls.valid.one_batch())[2][0][0], shown)
        assert dls.train.one_batch()[0].std() > 0.5
    finally:
        for dl in dls.loaders:
            dl.after_batch.fs = kept
