import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from errors import UserError
from options import DEFAULTS, read_config, refuse_conflicts, settle
from recipes import PLATEAU, REFERENCE


def kept(given=None):
    """What a run with the options `given` has in its config.json, read again."""
    options, recipe = settle(given or {})
    return {'options': options, 'recipe': recipe}


def written(file, **changes):
    options, recipe = settle({})
    model = {'recipe': asdict(recipe), 'classes': ['cat', 'dog'], 'size': [16, 24], 'resized': False}
    content = {'options': options, **model, 'images': 'a', 'surroundings': {}, **changes}
    file.write_text(json.dumps(content))
    return file


def test_defaults():
    options, recipe = settle({})
    assert options == DEFAULTS
    assert recipe == PLATEAU


def test_given_sizes_are_the_recipes():
    assert settle({'epochs': 3, 'bs': 7, 'recipe': 'reference'})[1] == replace(REFERENCE, epochs=3, bs=7)
    assert settle({'data': 'digits'})[1].flip == 0


def test_the_network_is_the_recipes_with_the_statistics_of_its_weights():
    _, recipe = settle({'arch': 'resnet50', 'pretrained': True})
    stats = {'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)}
    assert recipe == replace(PLATEAU, arch='resnet50', pretrained=True, **stats)
    again = {'options': {**DEFAULTS, 'arch': 'resnet50', 'pretrained': True}, 'recipe': recipe}
    assert settle({}, again)[1] == recipe
    assert settle({'arch': 'vgg11'}, again)[1] == replace(recipe, arch='vgg11')


@pytest.mark.parametrize(('given', 'said'), [
    ({'arch': 'resnet81'}, '--arch resnet81: torchvision has no classifier of that name; did you mean resnet18'),
    ({'arch': 'vgg11', 'recipe': 'speedrun'}, '--arch: this recipe is made for its own small network'),
    ({'pretrained': True, 'recipe': 'speedrun'}, '--pretrained: this recipe is made for its own small network'),
    ({'size': 15}, '--size 15: from 16 to 4096 pixels'),
])  # fmt: skip
def test_a_network_or_size_that_cannot_be(given, said):
    with pytest.raises(UserError, match=f'^{said}'):
        settle(given)


def test_a_path_is_kept_as_it_is_found_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', '/home/somebody')
    assert settle({'data': 'my images'})[0]['data'] == str(tmp_path / 'my images')
    assert settle({'data': '~/images'})[0]['data'] == '/home/somebody/images'


def test_what_is_given_counts_before_what_was_kept():
    theirs = kept({'seed': 1, 'epochs': 3, 'name': 'first', 'lr': 0.1})
    options, recipe = settle({'seed': 2}, theirs)
    assert (options['seed'], options['lr'], options['name'], recipe.epochs) == (2, 0.1, None, 3)


def test_a_kept_recipe_counts_before_the_one_of_that_name_now():
    theirs = {**kept(), 'recipe': replace(PLATEAU, patience=9)}
    assert settle({}, theirs)[1].patience == 9
    assert settle({'recipe': 'reference'}, theirs)[1] == REFERENCE


def test_a_config_is_read_as_it_was_written(tmp_path):
    config = read_config(written(tmp_path / 'config.json'))
    assert config['recipe'] == PLATEAU
    assert config['options'] == DEFAULTS
    assert (config['classes'], config['size'], config['resized']) == (['cat', 'dog'], (16, 24), False)
    assert read_config(tmp_path) == config  # the run's folder


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
    {'resized': None},
    {'options': {**DEFAULTS, 'unknown': 1}},
    {'recipe': {'pad': 0.1}},
    {'recipe': {**asdict(PLATEAU), 'mom': '0.9'}},
    {'recipe': {**asdict(PLATEAU), 'bs': 1.5}},
    {'recipe': None},
    {'recipe': {**asdict(PLATEAU), 'mean': [1.0]}},
    {'recipe': {**asdict(PLATEAU), 'mean': ['a', 'b', 'c']}},
    {'recipe': {**asdict(PLATEAU), 'pad': -1.0}},
    {'recipe': {**asdict(PLATEAU), 'dropout': 7}},
    {'recipe': {**asdict(PLATEAU), 'nesterov': 1}},
    {'options': {**DEFAULTS, 'recipe': []}},
    {'options': {**DEFAULTS, 'lr': 10**400}},
    {'options': {**DEFAULTS, 'seed': True}},
    {'options': {**DEFAULTS, 'out': None}},
    {'options': {**DEFAULTS, 'data': ''}},
    {'options': {**DEFAULTS, 'track': 'os'}},
    {'options': {**DEFAULTS, 'skip_bad': 'no'}},
    {'options': None},
    {'images': None, 'surroundings': None},
    {'images': 1},
    {'surroundings': {'python': ['3.11']}},
    {'surroundings': {'python': float('nan')}},
    {'recipe': {**asdict(PLATEAU), 'bias_lr': 0}},
    {'recipe': {**asdict(PLATEAU), 'std': [0.0, 0.5, 0.5]}},
    {'recipe': {**asdict(PLATEAU), 'wd': float('nan')}},
    {'options': {**DEFAULTS, 'data': 'a\0b'}},
])  # fmt: skip
def test_what_is_no_config_is_an_error_of_one_line(tmp_path, changes):
    file = written(tmp_path / 'config.json', **changes)
    with pytest.raises(UserError, match=r'config\.json is no config\.json of a run') as e:
        read_config(file)
    assert '\n' not in str(e.value)


def test_a_config_of_before_the_first_release_is_read(tmp_path):
    file = written(tmp_path / 'config.json', recipe={**asdict(PLATEAU), 'sizes': [0.75, 1.0]})
    assert read_config(file)['recipe'] == PLATEAU


def test_text_that_is_no_json_is_named(tmp_path):
    (tmp_path / 'config.json').write_text('{')
    with pytest.raises(UserError, match=r'is no config\.json of a run \(JSONDecodeError'):
        read_config(tmp_path / 'config.json')


@pytest.mark.parametrize(('option', 'value', 'said'), [
    ('seed', 1, '--seed 1: runs/a has 42'),
    ('epochs', 3, '--epochs 3: runs/a has 50'),
    ('valid', 'test', '--valid test: runs/a has 0.1'),
    ('skip_bad', True, '--skip-bad True: runs/a has False'),
    ('arch', 'vgg11', '--arch vgg11: runs/a has resnet18'),
    ('pretrained', True, '--pretrained True: runs/a has False'),
    ('size', 96, '--size 96: runs/a has the default'),
])  # fmt: skip
def test_a_run_does_not_go_on_with_other_options(option, value, said):
    with pytest.raises(UserError, match=f'^{said}; leave it out'):
        refuse_conflicts({option: value}, kept(), Path('runs/a'))


def test_options_that_a_run_did_not_have_yet_have_their_defaults(tmp_path):
    older = {name: value for name, value in DEFAULTS.items() if name != 'checkpoint_minutes'}
    assert read_config(written(tmp_path / 'config.json', options=older))['options'] == DEFAULTS


def test_a_run_whose_images_moved_keeps_its_recipe():
    theirs = {**kept({'data': 'images', 'epochs': 3}), 'recipe': replace(PLATEAU, epochs=3, patience=9)}
    refuse_conflicts({'data': 'elsewhere'}, theirs, Path('runs/a'))
    assert settle({'data': 'elsewhere'}, theirs)[1] == theirs['recipe']


def test_a_run_goes_on_with_its_own_options_and_with_those_that_change_nothing():
    own, free = {'seed': 42, 'epochs': 50}, {'workers': 3, 'checkpoint_minutes': 1.0, 'track': 'wandb'}
    refuse_conflicts({**own, **free}, kept(), Path('runs/a'))
