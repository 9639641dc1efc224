"""A checkpoint resumes only the training that wrote it."""

import json
import re
from dataclasses import replace

import pytest
import torch
from fastai.torch_core import set_seed
from PIL import Image
from tiny import TINY, tiny_dls

from callbacks.checkpoint import load_checkpoint
from data.fingerprint import fingerprint_images
from runtime.errors import UserError
from runtime.files import sha256
from runtime.tensor_file import save_tensors
from train_fastai import fit, get_learner
from training.identity import identity


def weights(learn):
    return {name: tensor.clone() for name, tensor in learn.model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def refused(learn, match, epochs=2):
    """Assert that `fit` refuses to resume, in one line, and changes neither the Learner nor its folder."""
    before, files = weights(learn), {f: f.read_bytes() for f in learn.path.rglob('*') if f.is_file()}
    with pytest.raises(UserError, match=match) as e:
        fit(learn, epochs, 0.05, resume=True)
    assert str(e.value).startswith(f'the checkpoint in {learn.path}/models is not of this training: ')
    assert '\n' not in str(e.value)
    assert same(weights(learn), before)
    assert {f: f.read_bytes() for f in learn.path.rglob('*') if f.is_file()} == files


def without_identity(folder):
    """Remove the training's description from the checkpoint in `folder`, as in earlier versions."""
    state = load_checkpoint(folder)
    del state['training']
    save_tensors(state, folder / 'last.pth')


@pytest.mark.parametrize(('change', 'match'), [
    ({'recipe': replace(TINY, dropout=0.3)}, r"the recipe's dropout 0\.0, here 0\.3; "),
    ({'recipe': replace(TINY, last_stride=1)}, r"the recipe's last_stride 2, here 1; "),
    ({'bs': 8}, 'batch size 4, here 8; '),
    ({'seed': 1}, 'other images, or another split; seed 42, here 1; '),
    ({'valid': 0.5}, r'other images, or another split; number of images \[18, 6, 12\], here \[12, 12, 12\]; '),
    ({'size': 32}, r'size of images \[16, 16\], here \[32, 32\]; '),
])  # fmt: skip
def test_a_checkpoint_of_another_training_is_refused_by_name(learner, change, match):
    first, other = learner(), learner(**change)
    fit(first, 1, 0.05)
    other.path = first.path
    refused(other, match)


def test_a_checkpoint_of_other_pixels_is_refused(learner):
    """Checkpoints of earlier versions have no entry: their images were resized in the way `direct`."""
    first, other, direct = (learner(size=32, pixels=pixels) for pixels in ('cached-1', 'direct', 'direct'))
    fit(first, 1, 0.05)
    other.path = first.path
    refused(other, r"the images' pixels cached-1, here direct \(get_dls has the argument pixels\); ")
    state = load_checkpoint(first.path / 'models')
    del state['training']['pixels']
    save_tensors(state, first.path / 'models/last.pth')
    refused(first, "the images' pixels direct, here cached-1 ")
    direct.path = first.path
    fit(direct, 2, 0.05, resume=True)


def test_a_checkpoint_of_other_images_is_refused(learner, folder):
    first = learner()
    fit(first, 1, 0.05)
    Image.new('RGB', (16, 16)).save(folder / 'train/red/00.png')
    other = learner()
    other.path = first.path
    refused(other, 'other images, or another split; choose another folder')


def test_a_checkpoint_of_another_network_is_refused(learner):
    first = learner()
    fit(first, 1, 0.05)
    first.model.fc = torch.nn.Linear(8, 5)
    refused(first, r'another network \(fc\.weight: \(3, 8\), here \(5, 8\)\); ')


def test_another_learners_training_in_its_own_folder_does_not_affect_resume(learner):
    """A notebook has two Learners with separate folders."""
    set_seed(0)
    alone = learner()
    fit(alone, 1, 0.05)
    expected = fit(alone, 2, 0.05, resume=True).drop(columns='seconds')
    set_seed(0)
    first = learner()
    fit(first, 1, 0.05)
    fit(learner(replace(TINY, dropout=0.3)), 2, 0.05)
    assert fit(first, 2, 0.05, resume=True).drop(columns='seconds').equals(expected)
    assert same(weights(first), weights(alone))


def test_an_older_checkpoint_resumes_as_a_current_one(learner):
    ends = []
    for older in False, True:
        set_seed(0)
        learn = learner()
        fit(learn, 1, 0.05)
        if older:
            without_identity(learn.path / 'models')
            images = fingerprint_images(learn.dls, like='')  # in the form that it had then
            (learn.path / 'config.json').write_text(json.dumps({'images': images}))
        fit(learn, 2, 0.05, resume=True)
        ends.append(weights(learn))
    assert same(*ends)
    assert 'training' in load_checkpoint(learn.path / 'models')


def test_an_older_checkpoint_of_other_images_or_weights_is_refused(learner):
    learn = learner()
    fit(learn, 1, 0.05)
    without_identity(learn.path / 'models')
    (learn.path / 'config.json').write_text('{"images": "others"}')
    refused(learn, 'other images, or another split; ')
    (learn.path / 'config.json').unlink()
    learn.model.fc = torch.nn.Linear(8, 5)
    refused(learn, 'another network')


@pytest.mark.parametrize(
    'training', [1, [], {}, {'images': 'a', 'recipe': {'lr': 'x'}}, {'images': 'a', 'seed': '\x1b[31m\n'}]
)
def test_a_checkpoint_with_an_invalid_description_is_refused(learner, training):
    learn = learner()
    fit(learn, 1, 0.05)
    state = load_checkpoint(learn.path / 'models')
    save_tensors({**state, 'training': training}, learn.path / 'models/last.pth')
    refused(learn, 'is not of this training')


def test_a_checkpoint_resumes_for_more_epochs(learner):
    first = learner(replace(TINY, epochs=1))
    fit(first, lr=0.05)
    more = learner(replace(TINY, epochs=2))
    more.path = first.path
    assert list(fit(more, lr=0.05, resume=True).epoch) == [0, 1]


def test_resume_prints_the_checkpoint_it_found(learner, capsys):
    learn = learner()
    fit(learn, 1, 0.05, resume=True)
    assert f'no checkpoint in {learn.path}/models: training begins at epoch 1\n' in capsys.readouterr().out
    fit(learn, 2, 0.05, resume=True)
    assert 'going on at epoch 2, batch 1\n' in capsys.readouterr().out
    fit(learn, 2, 0.05, resume=True)
    assert f'the checkpoint in {learn.path}/models has all epochs (2): nothing is left' in capsys.readouterr().out
    fit(learn, 1, 0.05)
    assert 'no checkpoint' not in capsys.readouterr().out


def test_images_are_read_once_for_all_fits_of_a_learner(learner, monkeypatch):
    learn, read = learner(), []
    fingerprint = learn.dls.fingerprint
    monkeypatch.setattr('data.fingerprint.sha256', lambda file: read.append(file) or sha256(file))
    del learn.dls.fingerprint  # as in DataLoaders that aren't from get_dls
    for epochs in 1, 2:
        fit(learn, epochs, 0.05, resume=True)
    assert read == [file for dl in learn.dls.loaders for file in dl.dataset.items]
    assert identity(learn)['images'] == fingerprint


def test_images_that_are_not_files_are_compared_by_their_number(learner):
    learn = learner()
    del learn.dls.fingerprint
    learn.dls.train_ds.items = list(range(18))
    assert identity(learn)['images'] is None
    assert identity(learn)['number of images'] == [18, 6, 12]


def test_without_a_path_each_learner_has_a_folder_of_its_own(learner, folder, tmp_path, monkeypatch, capsys):
    (tmp_path / 'project').mkdir()
    monkeypatch.chdir(tmp_path / 'project')
    dls = tiny_dls(folder)
    first, second = get_learner(dls), get_learner(dls)
    assert first.path != second.path
    printed = re.findall(r'^weights, history and checkpoints will be in (\S+) ', capsys.readouterr().out, flags=re.M)
    assert printed == [str(first.path), str(second.path)]
    assert not [*(tmp_path / 'project').iterdir()]  # folders are created on the first write
    fit(first, 1, 0.05)
    assert [file.name for file in (tmp_path / 'project').iterdir()] == ['runs']
    assert {file.name for file in first.path.iterdir()} == {'models', 'history.csv'}
    second.export()
    assert (second.path / 'export.pkl').is_file()
