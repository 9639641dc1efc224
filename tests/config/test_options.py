import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from config.options import Config, resolve_config, resume_config
from config.recipes import FINETUNE, PLATEAU, REFERENCE, SPEEDRUN
from config.saved import read_config
from runtime.errors import UserError

# as the previous version saved them, beside the resulting recipe
OPTIONS = {
    'data': 'cifar10', 'recipe': 'plateau', 'arch': None, 'pretrained': False, 'size': None, 'epochs': None, 'bs': None,
    'lr': 'auto', 'valid': None, 'fraction': 1.0, 'seed': 42, 'workers': None, 'compile': False,
    'checkpoint_minutes': 5.0, 'out': 'runs', 'name': None, 'track': 'none', 'skip_bad': False,
}  # fmt: skip


def written(file, **changes):
    """Write a config.json of the previous version, with `changes`."""
    recipe = {name: value for name, value in asdict(PLATEAU).items() if name != 'name'}
    model = {'recipe': recipe, 'classes': ['cat', 'dog'], 'size': [16, 24], 'resized': False}
    file.write_text(json.dumps({'options': OPTIONS, **model, 'images': 'a', 'surroundings': {}, **changes}))
    return file


def test_no_options_give_the_default_config():
    assert resolve_config({}) == Config()
    assert Config().recipe == PLATEAU


def test_options_override_values_of_the_recipe():
    given = {'epochs': 3, 'bs': 7, 'recipe': 'reference'}
    assert resolve_config(given).recipe == replace(REFERENCE, epochs=3, bs=7)
    assert resolve_config({'lr': 0.3}).recipe == replace(PLATEAU, lr=0.3, lr_rule='none')
    assert resolve_config({'lr': 'auto'}).recipe == PLATEAU
    assert resolve_config({'arch': 'vgg11', 'pretrained': True}).recipe == replace(
        PLATEAU, arch='vgg11', pretrained=True
    )
    assert resolve_config({'data': 'digits'}).recipe.flip == 0


@pytest.mark.parametrize(('given', 'said'), [
    ({'arch': 'vgg11', 'recipe': 'speedrun'}, '--arch: this recipe is made for its own small network'),
    ({'pretrained': True, 'recipe': 'speedrun'}, '--pretrained: this recipe is made for its own small network'),
    ({'size': 15}, '--size 15: from 16 to 4096 pixels'),
    ({'recipe': 'soup'}, '--recipe soup: one of auto, plateau, reference, speedrun, hour'),
    ({'recipe': []}, r'--recipe \[\]: one of'),
    ({'epochs': 0}, '--epochs 0: at least 1'),
    ({'bs': 1}, '--bs 1: at least 2, since BatchNorm needs more images'),
    ({'lr': 0.0}, '--lr 0.0: a number above 0, or auto'),
    ({'lr': True}, '--lr True: a number above 0, or auto'),
    ({'lr': float('nan')}, '--lr nan: a number above 0, or auto'),
    ({'valid': 'train'}, '--valid train: at least 0 and below 1, or test'),
    ({'checkpoint_minutes': -1}, '--checkpoint-minutes -1: 0 or more'),
    ({'data': ''}, '--data : a name or a path'),
    ({'out': 'a\0b'}, '--out a.*b: a folder'),
    ({'track': 'os'}, '--track os: one of none, tensorboard, wandb'),
    ({'skip_bad': 'no'}, '--skip-bad no: true or false'),
])  # fmt: skip
def test_an_invalid_value_is_named(given, said):
    with pytest.raises(UserError, match=f'^{said}'):
        resolve_config(given)


def test_a_data_path_becomes_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', '/home/somebody')
    assert resolve_config({'data': 'my images'}).data == str(tmp_path / 'my images')
    assert resolve_config({'data': '~/images'}).data == '/home/somebody/images'


def test_given_options_take_precedence_over_saved_ones():
    saved = resolve_config({'seed': 1, 'epochs': 3, 'name': 'first', 'lr': 0.1})
    config = resolve_config({'seed': 2}, saved)
    assert (config.seed, config.recipe.lr, config.recipe.lr_rule) == (2, 0.1, 'none')
    assert (config.name, config.recipe.epochs) == (None, 3)
    assert resolve_config({'lr': 'auto'}, saved).recipe == replace(PLATEAU, epochs=3)


def test_a_flag_of_a_saved_config_can_be_turned_off():
    saved = Config(compile=True, skip_bad=True, keep_checkpoints=True)
    assert resolve_config({'compile': False, 'skip_bad': False, 'keep_checkpoints': False}, saved) == Config()
    assert resolve_config({'compile': False}, saved) == replace(saved, compile=False)


def test_without_pretrained_weights_the_recipe_has_its_own_mean_and_std_again():
    stats = {'mean': (0.5, 0.5, 0.5), 'std': (0.5, 0.5, 0.5), 'side': 224}
    saved = Config(replace(PLATEAU, arch='resnet50', pretrained=True, **stats))
    assert resolve_config({'pretrained': False}, saved).recipe == replace(PLATEAU, arch='resnet50')
    assert resolve_config({}, saved).recipe == saved.recipe


def test_a_new_run_ignores_the_saved_out():
    assert resolve_config({}, Config(out='/home/somebody')).out == 'runs'
    assert resolve_config({'out': 'here'}, Config(out='/home/somebody')).out == 'here'


def test_a_saved_recipe_takes_precedence_over_the_current_one_of_its_name():
    saved = Config(replace(PLATEAU, patience=9))
    assert resolve_config({}, saved).recipe.patience == 9
    assert resolve_config({'recipe': 'reference'}, saved).recipe == REFERENCE


def test_saved_overrides_apply_to_another_recipe():
    saved = resolve_config({'epochs': 3, 'lr': 0.1})
    assert resolve_config({'recipe': 'reference'}, saved).recipe == replace(REFERENCE, epochs=3, lr=0.1, lr_rule='none')


def test_a_config_survives_writing_and_reading(tmp_path):
    config = resolve_config({'seed': 3, 'epochs': 2, 'lr': 0.2, 'data': 'digits', 'recipe': 'speedrun'})
    saved = read_config(written(tmp_path / 'config.json', **config.as_json()))
    assert saved.config == config
    assert (saved.classes, saved.size, saved.resized) == (['cat', 'dog'], (16, 24), False)
    assert read_config(tmp_path) == saved  # the run's folder


def test_a_config_of_the_previous_version_is_read(tmp_path):
    assert read_config(written(tmp_path / 'config.json')).config == Config(pixels='direct')
    options = {**OPTIONS, 'epochs': 3, 'lr': 0.2, 'seed': 7}
    recipe = {**asdict(replace(PLATEAU, epochs=3)), 'sizes': [0.75, 1.0]}
    del recipe['name']
    saved = read_config(written(tmp_path / 'config.json', options=options, recipe=recipe))
    assert saved.config == Config(replace(PLATEAU, epochs=3, lr=0.2, lr_rule='none'), 'direct', seed=7)


def test_options_missing_in_an_older_config_have_their_defaults(tmp_path):
    older = {name: value for name, value in OPTIONS.items() if name != 'checkpoint_minutes'}
    assert read_config(written(tmp_path / 'config.json', options=older)).config == Config(pixels='direct')


@pytest.mark.parametrize('changes', [
    {'classes': ['cat']},
    {'classes': ['cat', 'cat']},
    {'classes': ['cat', 1]},
    {'classes': 'cats'},
    {'classes': None, 'size': None, 'resized': None},
    {'size': [16]},
    {'size': [0, 16]},
    {'size': [16.0, 16]},
    {'size': [10**6, 10**6]},
    {'size': 16},
    {'size': None},
    {'resized': 0},
    {'options': {**OPTIONS, 'pixels': 'cached-2'}},
    {'resized': None},
    {'options': {**OPTIONS, 'unknown': 1}},
    {'recipe': {'pad': 0.1}},
    {'recipe': {**asdict(PLATEAU), 'mom': '0.9'}},
    {'recipe': {**asdict(PLATEAU), 'bs': 1.5}},
    {'recipe': None},
    {'recipe': {**asdict(PLATEAU), 'mean': [1.0]}},
    {'recipe': {**asdict(PLATEAU), 'mean': ['a', 'b', 'c']}},
    {'recipe': {**asdict(PLATEAU), 'pad': -1.0}},
    {'recipe': {**asdict(PLATEAU), 'dropout': 7}},
    {'recipe': {**asdict(PLATEAU), 'nesterov': 1}},
    {'options': {**OPTIONS, 'recipe': []}},
    {'options': {**OPTIONS, 'recipe': 'soup'}},
    {'options': {**OPTIONS, 'lr': 10**400}},
    {'options': {**OPTIONS, 'seed': True}},
    {'options': {**OPTIONS, 'out': None}},
    {'options': {**OPTIONS, 'data': ''}},
    {'options': {**OPTIONS, 'track': 'os'}},
    {'options': {**OPTIONS, 'skip_bad': 'no'}},
    {'options': None},
    {'images': None, 'surroundings': None},
    {'images': 1},
    {'surroundings': {'python': ['3.11']}},
    {'surroundings': {'python': float('nan')}},
    {'recipe': {**asdict(PLATEAU), 'bias_lr': 0}},
    {'recipe': {**asdict(PLATEAU), 'std': [0.0, 0.5, 0.5]}},
    {'recipe': {**asdict(PLATEAU), 'wd': float('nan')}},
    {'options': {**OPTIONS, 'data': 'a\0b'}},
])  # fmt: skip
def test_an_invalid_config_is_a_one_line_error(tmp_path, changes):
    file = written(tmp_path / 'config.json', **changes)
    with pytest.raises(UserError, match=r'config\.json is not a valid config\.json of a run') as e:
        read_config(file)
    assert '\n' not in str(e.value)


def test_invalid_json_is_a_one_line_error(tmp_path):
    (tmp_path / 'config.json').write_text('{')
    with pytest.raises(UserError, match=r'is not a valid config\.json of a run \(JSONDecodeError'):
        read_config(tmp_path / 'config.json')


@pytest.mark.parametrize(('option', 'value', 'said'), [
    ('seed', 1, '--seed 1: runs/a has 42'),
    ('epochs', 3, '--epochs 3: runs/a has 50'),
    ('valid', 'test', '--valid test: runs/a has the default'),
    ('skip_bad', True, '--skip-bad True: runs/a has False'),
    ('arch', 'vgg11', '--arch vgg11: runs/a has resnet18'),
    ('pretrained', True, '--pretrained True: runs/a has False'),
    ('recipe', 'reference', '--recipe reference: runs/a has plateau'),
    ('lr', 0.2, '--lr 0.2: runs/a has auto'),
    ('size', 96, '--size 96: runs/a has the default'),
])  # fmt: skip
def test_resume_refuses_options_that_change_the_result(option, value, said):
    with pytest.raises(UserError, match=f'^{said}; leave it out'):
        resume_config({option: value}, Config(), Path('runs/a'))


def test_resume_with_moved_images_keeps_the_recipe():
    saved = Config(replace(PLATEAU, epochs=3, patience=9), data='images')
    assert resume_config({'data': 'digits'}, saved, Path('runs/a')) == replace(saved, data='digits')


def test_resume_accepts_equal_options_and_options_that_do_not_affect_the_result():
    own, free = {'seed': 42, 'epochs': 50}, {'workers': 3, 'checkpoint_minutes': 1.0, 'track': 'wandb'}
    assert resume_config({**own, **free}, Config(), Path('runs/a')) == Config(**free)
    speedrun = Config(SPEEDRUN, name='b', out='there')
    assert resume_config({'recipe': 'speedrun', 'name': 'b', 'out': 'there'}, speedrun, Path('runs/b')) == speedrun
    with pytest.raises(UserError, match=r'^--out here: runs/b has there'):
        resume_config({'out': 'here'}, speedrun, Path('runs/b'))


@pytest.mark.parametrize('lr', [1e-30, 1e30])
def test_the_lowest_and_the_highest_rate_are_read_again(lr, tmp_path):
    config = resolve_config({'lr': lr})
    assert read_config(written(tmp_path / 'config.json', **config.as_json())).config == config


def test_weights_for_a_run_from_scratch_bring_back_its_frozen_epochs():
    scratch = resolve_config({'recipe': 'finetune', 'pretrained': False})
    assert scratch.recipe == replace(FINETUNE, pretrained=False, frozen=0)
    assert resolve_config({'pretrained': True}, scratch).recipe == FINETUNE
    assert resolve_config({'weights': '/a.pth'}, scratch).recipe == replace(FINETUNE, weights='/a.pth')


def test_a_pretrained_run_can_be_repeated_with_a_network_for_cpus():
    saved = Config(replace(PLATEAU, pretrained=True))
    assert resolve_config({'recipe': 'speedrun', 'pretrained': False}, saved).recipe == SPEEDRUN
    with pytest.raises(UserError, match='--pretrained: this recipe is made for its own small network'):
        resolve_config({'recipe': 'speedrun'}, saved)


def test_a_resumed_run_has_no_choice_of_a_recipe():
    with pytest.raises(UserError, match='--recipe auto: runs/a has plateau; leave it out, or start a new run'):
        resume_config({'recipe': 'auto'}, Config(), Path('runs/a'))
