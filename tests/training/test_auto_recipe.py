import pytest
import torch
from tiny import write_images

from config.options import resolve_config
from runtime.errors import UserError
from training.auto_recipe import auto_recipe


def chosen(capsys, data, **options):
    name = auto_recipe(resolve_config({'recipe': 'plateau', 'data': str(data), **options}))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f'recipe {name}: ')
    return name


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr('training.auto_recipe.default_device', lambda: torch.device('cuda'))


def test_small_images_get_the_recipe_of_the_hardware(folder, capsys, request):
    assert chosen(capsys, data=folder) == 'speedrun'
    request.getfixturevalue('gpu')
    assert chosen(capsys, data=folder) == 'plateau'


def test_size_decides_what_images_are_trained_as(folder, tmp_path, capsys):
    photographs = write_images(tmp_path / 'photographs', size=(70, 90))
    assert chosen(capsys, data=photographs) == 'finetune'
    assert chosen(capsys, data=photographs, arch='resnet34') == 'finetune'
    assert chosen(capsys, data=photographs, size=64) == 'finetune'  # resized images
    assert chosen(capsys, data=folder, size=16) == 'speedrun'  # as they are
    assert chosen(capsys, data=folder, size=20) == 'finetune'


def test_a_few_unusable_files_do_not_decide(folder, capsys):
    (folder / 'train/red/00.png').write_bytes(b'no image')
    (folder / 'train/red/zz').symlink_to('nowhere')
    assert chosen(capsys, data=folder) == 'speedrun'


@pytest.mark.parametrize('network', [{'arch': 'resnet34'}, {'pretrained': True}])
def test_a_network_that_is_given_excludes_the_recipes_that_have_their_own(folder, capsys, network):
    assert chosen(capsys, data=folder, **network) == 'plateau'


def test_the_default_network_can_be_asked_for(folder):
    assert auto_recipe(resolve_config({'data': str(folder)}), arch_given=True) == 'plateau'


def test_digits_get_the_mission(capsys):
    assert chosen(capsys, data='digits') == 'plateau'


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(UserError, match='has no class folders'):
        auto_recipe(resolve_config({'data': str(tmp_path)}))
