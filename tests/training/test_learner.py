import pytest
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


def test_freeze_prints_a_line_if_nothing_is_frozen(learner, capsys):
    learn = learner()
    learn.freeze()
    assert capsys.readouterr().out == (
        'freeze: all weights are in one parameter group, so nothing is frozen; the whole network trains\n'
    )
    learn.unfreeze()
    assert capsys.readouterr().out == ''
    assert all(p.requires_grad for p in learn.model.parameters())


def test_gradients_are_scaled_once(learner):
    learn = learner()
    learn.add_cb(MixedPrecision())  # as on a GPU
    learn.to_fp16().to_bf16()
    (mixed,) = (cb for cb in learn.cbs if isinstance(cb, MixedPrecision))
    assert mixed.amp_mode == AMPMode.BF16
    assert learn.to_channelslast() is learn
    assert not [cb for cb in learn.to_fp32().cbs if isinstance(cb, MixedPrecision)]
