import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from tiny import TINY, tiny_net, write_run

import export as module
from callbacks.test_time_views import MeanOverViews
from config.recipes import FINETUNE, HOUR
from export import export, main
from models.classifier import Classifier
from runtime.tensor_file import save_tensors
from training.saved_run import load_model


@pytest.fixture
def photos(folder):
    """The test images: files, and uint8, N x 3 x H x W."""
    files = sorted((folder / 'test').rglob('*.png'))
    return files, np.stack([np.asarray(Image.open(file)) for file in files]).transpose(0, 3, 1, 2)


def predicted(run, files):
    learn = load_model(run)
    return torch.stack([learn.predict(file)[2] for file in files])


def test_onnx_gives_the_learners_probabilities_for_any_number_of_images(run, photos):
    import onnxruntime

    said = export(run, 'onnx')
    checked = rf'{run}/model\.onnx: its .* by at most \S+ from the Learner on 12 images in {photos[0][0].parents[1]}'
    assert re.fullmatch(checked, said)
    assert [file.name for file in run.iterdir() if 'onnx' in file.name] == [
        'model.onnx'
    ]  # one file, which includes the weights
    session = onnxruntime.InferenceSession(run / 'model.onnx')
    files, pixels = photos
    expected = predicted(run, files)
    for n in (1, 5, 12):
        (got,) = session.run(['probabilities'], {'images': pixels[:n]})
        torch.testing.assert_close(torch.from_numpy(got), expected[:n], atol=1e-4, rtol=0)
    about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert about['classes'] == ['blue', 'green', 'red']
    assert about['size'] == [16, 16]


def test_safetensors_gives_the_learners_probabilities_and_its_header_describes_the_model(run, photos, tmp_path):
    said = export(run, 'safetensors', tmp_path)  # a folder
    assert said.startswith(f'{tmp_path}/model.safetensors: its probabilities differ by at most ')
    with safe_open(tmp_path / 'model.safetensors', 'pt') as f:
        about, weights = f.metadata(), {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118, not a dict
    assert about.pop('format') == 'pt'
    about = {key: json.loads(value) for key, value in about.items()}
    assert set(about) == {'classes', 'size', 'mean', 'std', 'architecture', 'recipe'}
    model = tiny_net(3, 1, 0.0)
    model.load_state_dict(weights)
    files, pixels = photos
    with torch.no_grad():
        got = Classifier(model, TINY).eval()(torch.from_numpy(pixels))
    torch.testing.assert_close(got, predicted(run, files), atol=1e-4, rtol=0)


@pytest.mark.parametrize('recipe', [replace(TINY, test_views=True), replace(HOUR, bs=4)])
def test_test_time_views_and_other_networks_are_exported(run, folder, tmp_path, recipe):
    another = write_run(tmp_path / 'another', folder, recipe)
    for format in ('onnx', 'safetensors'):
        assert f'on 12 images in {folder}/test' in export(another, format)
    file = folder / 'test/red/00.png'
    plain = load_model(another)
    plain.remove_cb(MeanOverViews)
    assert (load_model(another).predict(file)[2] - plain.predict(file)[2]).abs().max() > 1e-3


@pytest.mark.slow
def test_a_fine_tuned_network_of_timm_is_exported(folder, tmp_path):
    run = write_run(tmp_path / 'runs', folder, replace(FINETUNE, pretrained=False), size=(64, 64), resized=True)
    weights = torch.load(run / 'models/best.pth', weights_only=True)
    weights['classifier.weight'] /= 50  # timm begins with outputs of up to 8, here times 10
    save_tensors(weights, run / 'models/best.pth')
    for format in ('onnx', 'safetensors'):
        assert f'on 12 images in {folder}/test' in export(run, format)  # UserError if the probabilities differ by 1e-4


def test_a_network_that_torch_cannot_write_as_onnx_is_named(run, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise torch.onnx.errors.OnnxExporterError('of\nmany lines')

    monkeypatch.setattr(torch.onnx, 'export', refuse)
    with pytest.raises(SystemExit) as e:
        main(str(run), 'onnx')
    assert e.value.code == 2
    assert capsys.readouterr().err == "export.py: torch can't write resnet18 as ONNX: use --format safetensors\n"
    assert sorted(file.name for file in run.iterdir()) == ['config.json', 'models']


def test_a_missing_output_folder_is_created(run, tmp_path):
    assert export(run, 'safetensors', f'{tmp_path}/new/').startswith(f'{tmp_path}/new/model.safetensors: ')


def test_without_the_runs_images_the_check_uses_random_images(run, folder, tmp_path):
    folder.rename(tmp_path / 'elsewhere')
    said = export(run, 'safetensors', tmp_path / 'a.st')
    assert said.endswith("on 100 random images, since the run's were not found")
    assert (tmp_path / 'a.st').is_file()


def test_the_check_uses_a_hundred_test_images_of_all_classes(folder):
    for name in ('red', 'green', 'blue'):
        for i in range(100, 200):
            (folder / f'test/{name}/{i}.png').touch()
    files = module._files(str(folder))[0]
    assert len(files) == len({*files}) == 100
    assert min(sum(file.parent.name == name for file in files) for name in ('red', 'green', 'blue')) >= 33


def test_without_a_test_set_the_check_uses_any_images(folder):
    files, whose = module._files(str(folder / 'test'))
    assert (len(files), whose) == (12, f'images in {folder}/test')


def test_a_file_with_other_probabilities_is_not_kept(run, monkeypatch, capsys):
    monkeypatch.setattr(Classifier, 'forward', lambda self, images: self.model(images / 255).softmax(1))
    for format in ('onnx', 'safetensors'):
        with pytest.raises(SystemExit) as e:
            main(str(run), format)
        assert e.value.code == 2
        assert re.fullmatch(
            r'export\.py: .*model\.\w+ is not written: its probabilities would differ by \S+ from the Learner\n',
            capsys.readouterr().err,
        )
    assert sorted(file.name for file in run.iterdir()) == ['config.json', 'models']


@pytest.mark.parametrize(('format', 'package'), [('onnx', 'onnxscript'), ('safetensors', 'safetensors')])
def test_a_missing_package_is_named_with_its_pip_command(run, format, package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as e:
        main(str(run), format)
    assert e.value.code == 2
    assert capsys.readouterr().err == f'export.py: --format {format} needs {package}: pip install {package}\n'


def test_cifar10_is_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr('data.sources.untar_data', lambda *args: pytest.fail('it downloads'))
    assert module._files('cifar10') == ([], '')
    files, whose = module._files('digits')  # bundled with scikit-learn
    assert len(files) == 100
    assert whose.endswith('digits16/test')


def test_run_folders_among_the_images_are_ignored(folder):
    files, _ = module._files(str(folder))
    (folder / 'test/runs/one/models').mkdir(parents=True)
    (folder / 'test/runs/one/config.json').write_text('{"surroundings": {}}')
    assert module._files(str(folder))[0] == files
    assert len(files) == 12
