from dataclasses import replace

import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.data.block import CategoryBlock, DataBlock, MultiCategoryBlock, RegressionBlock
from fastai.data.transforms import get_image_files, parent_label
from fastai.vision.core import PILImageBW
from fastai.vision.data import ImageBlock, ImageDataLoaders
from tiny import TINY, tiny_net, write_images

from config.recipes import PLATEAU, SPEEDRUN
from runtime.errors import UserError
from training.fit import fit
from training.learner import get_learner


@pytest.mark.parametrize('recipe', [None, SPEEDRUN])
def test_fastais_own_loaders_are_trained_on(tmp_path, monkeypatch, recipe):
    asked = []

    def model(recipe, n_out, size, load=True):
        asked.append((recipe, n_out, size))
        return get_model(recipe, n_out, size, load) if recipe is SPEEDRUN else tiny_net(n_out, 2, 0.0)

    from models.build import get_model

    monkeypatch.setattr('training.learner.get_model', model)
    images = write_images(tmp_path / 'images', size=(16, 20))
    dls = ImageDataLoaders.from_folder(images, valid='test', bs=6, num_workers=0, device='cpu')
    learn = get_learner(dls, recipe, tmp_path)
    assert asked == [(recipe or PLATEAU, 3, (16, 20))]
    assert len(fit(learn, 1, 0.01)) == 1


def test_dataloaders_without_rgb_images_or_single_classes_are_refused(tmp_path):
    images, label = write_images(tmp_path / 'images'), parent_label
    for blocks, get_y in [
        ((ImageBlock(PILImageBW), CategoryBlock), label),
        ((ImageBlock, MultiCategoryBlock), lambda file: [label(file)]),
        ((ImageBlock, RegressionBlock), lambda file: 1.5),
    ]:
        dls = DataBlock(blocks, get_items=get_image_files, get_y=get_y).dataloaders(images, bs=4, num_workers=0)
        with pytest.raises(UserError, match=r'^get_learner needs DataLoaders of RGB images with one class each'):
            get_learner(dls, TINY, tmp_path)


@pytest.mark.parametrize(('changes', 'groups'), [
    ({}, ['body', 'head']),
    ({'bias_lr': 64.0, 'muon': 0.2}, ['biases', 'filters', 'body', 'head']),
])  # fmt: skip
def test_freeze_leaves_only_the_last_layer_to_train(learner, changes, groups):
    learn = learner(replace(TINY, **changes))
    learn.freeze()
    trained = {name for name, p in learn.model.named_parameters() if p.requires_grad}
    assert trained == {'fc.weight', 'fc.bias'}
    assert list(learn.recipe.lr_scales) == groups
    names = {p: name for name, p in learn.model.named_parameters()}
    found = [{names[p] for p in group} for group in learn.opt.param_lists]
    assert len(found) == len(groups)
    assert found[-1] == trained
    if changes:
        assert found[0] == {f'layer{i}.1.bias' for i in (1, 2, 3, 4)}
        assert found[1] == {f'layer{i}.0.weight' for i in (1, 2, 3, 4)}
    learn.unfreeze()
    assert all(p.requires_grad for p in learn.model.parameters())


def test_fastais_fine_tune_trains_the_last_layer_first(learner):
    learn, frozen = learner(), []
    before = {name: p.clone() for name, p in learn.model.named_parameters()}

    class Note(Callback):
        def after_train(self):
            frozen.append({name for name, p in learn.model.named_parameters() if torch.equal(p, before[name])})

    learn.fine_tune(1, cbs=Note())
    assert frozen[0] == {name for name in before if not name.startswith('fc')}
    assert 'layer1.0.weight' not in frozen[1]


def test_gradients_are_scaled_once(learner):
    learn = learner()
    learn.add_cb(MixedPrecision())  # as on a GPU
    learn.to_fp16().to_bf16()
    (mixed,) = (cb for cb in learn.cbs if isinstance(cb, MixedPrecision))
    assert mixed.amp_mode == AMPMode.BF16
    assert learn.to_channelslast() is learn
    assert not [cb for cb in learn.to_fp32().cbs if isinstance(cb, MixedPrecision)]
