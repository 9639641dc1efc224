"""The command line end to end, and the same steps in a REPL."""

import csv
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from fastai.torch_core import default_device
from fastai.vision.core import PILImage
from PIL import Image
from tiny import tiny_model, write_images
from torchvision.models import resnet18

from config.recipes import PLATEAU, REFERENCE, SPEEDRUN, recipe_for
from data.sources import get_source
from runtime.errors import UserError
from train_fastai import GradCAMInterpretation, find_lr, fit, get_dls, get_learner, main, review
from training.muon import Muon
from training.saved_run import load_model, load_run

ROOT = Path(__file__).parents[1]
PICTURES = (
    'lr_find accuracy accuracy_loss confusion_matrix gradcam_mistakes augmented/red augmented/green augmented/blue'
)


@pytest.fixture
def tiny(monkeypatch):
    """Replaces all networks by tiny ones."""
    monkeypatch.setattr('training.learner.get_model', tiny_model)


class RunsCode:
    """Creates a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def summary_of(run: Path) -> dict:
    """The run's summary without the seconds of its review."""
    summary = json.loads((run / 'summary.json').read_text())
    return {**summary, 'phases': {**summary['phases'], 'review': None}}


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A complete run on the tiny images, with ASCII output only: its folder and the finished process."""
    tmp = tmp_path_factory.mktemp('whole run')
    data = write_images(tmp / 'Bilder für später')
    command = [sys.executable, ROOT / 'train_fastai.py', '--data', data, '--recipe', 'plateau',
               '--out', tmp / 'my runs', '--name', 'first', '--epochs', '2', '--bs', '6',
               '--valid', '0.25']  # fmt: skip
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONIOENCODING': 'ascii', 'LC_ALL': 'C'}
    done = subprocess.run(command, cwd=tmp, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return tmp / 'my runs/first', done


def test_run_folder_is_complete(finished):
    folder, _ = finished
    files = {f.relative_to(folder).as_posix() for f in folder.rglob('*') if f.is_file()}
    tables = {f'{name}.json' for name in ('config', 'sweep', 'summary')}
    tables |= {f'{name}.csv' for name in ('history', 'mistakes', 'per_class', 'faithfulness')}
    tables |= {'report.html', 'model_card.md', '.lock'}
    tables |= {'models/best.pth'}
    assert files == tables | {f'plots/{name}.png' for name in PICTURES.split()}


def test_pictures_are_not_blank(finished):
    for file in (finished[0] / 'plots').rglob('*.png'):
        with Image.open(file) as im:
            im.load()
            assert min(im.size) > 150
            assert np.asarray(im.convert('L')).std() > 5, f'{file} is blank'


def test_output_is_plain_lines(finished):
    out = finished[1].stdout
    assert not re.search(r'[\r\x1b█]|\\u2588|\|-', out)
    data = f'{finished[0].parents[1]}/Bilder f\\xfcr sp\\xe4ter'
    assert out.startswith(f'{data}: 18 training, 6 validation, 12 test images\n')
    assert len(re.findall(r'^epoch [12]/2  train_loss .* valid_accuracy .* s$', out, flags=re.M)) == 2
    assert re.search(r'^lr \S+: \w+, ', out, flags=re.M)
    assert re.search(r'^max train accuracy +\d+\.\d\d%$', out, flags=re.M)
    assert re.search(r'^test accuracy +\d+\.\d\d%$', out, flags=re.M)
    assert 'optimistic' not in out
    assert 'course project' not in out
    assert finished[1].stderr == ''


def test_summary_agrees_with_the_other_files(finished):
    folder, _ = finished
    summary, config = (json.loads((folder / name).read_text()) for name in ('summary.json', 'config.json'))
    rows = list(csv.DictReader((folder / 'history.csv').open()))
    best = min(rows, key=lambda row: float(row['valid_loss']))
    assert summary['best_epoch'] == int(best['epoch'])
    assert summary['best_valid_accuracy'] == pytest.approx(float(best['valid_accuracy']))
    assert summary['max_train_accuracy'] == pytest.approx(max(float(row['train_accuracy']) for row in rows))
    assert summary['parameters'] == 11_173_962 - 7 * 513  # 3 classes instead of 10
    assert summary['course_project'] is None  # it used other images
    assert (summary['leaked_test_images'], summary['leak']) == (0, None)
    assert summary['test_accuracy_without_leaked'] == summary['test_accuracy']
    mistakes = list(csv.DictReader((folder / 'mistakes.csv').open()))
    assert summary['test_accuracy'] == pytest.approx(1 - len(mistakes) / 12)
    assert all(row['actual'] != row['predicted'] and row['file'].startswith('test/') for row in mistakes)
    options, recipe = config['options'], config['recipe']
    assert (options['seed'], options['recipe']) == (42, 'plateau')
    assert (recipe['name'], recipe['epochs'], recipe['bs'], recipe['mom']) == ('plateau', 2, 6, 0.9)
    assert (config['classes'], config['size'], config['resized']) == (['blue', 'green', 'red'], [16, 16], False)
    sweep = json.loads((folder / 'sweep.json').read_text())
    assert summary['lr'] == pytest.approx(sweep['lr'])
    trained = sum(float(row['seconds']) for row in rows)
    assert summary['seconds'] == pytest.approx(sweep['seconds'] + trained, abs=0.1)


def test_saved_weights_give_the_test_accuracy(finished):
    from data.augment import get_transforms
    from models.resnet import cifar_resnet18

    folder, _ = finished
    model = cifar_resnet18(3)
    model.load_state_dict(torch.load(folder / 'models/best.pth', weights_only=True))
    _, valid = get_transforms(PLATEAU, (16, 16))
    classes, right = ['blue', 'green', 'red'], 0
    with torch.no_grad():
        for file in sorted((folder.parents[1] / 'Bilder für später/test').rglob('*.png')):
            x = valid(image=np.asarray(Image.open(file)))['image'][None]
            right += classes[model.eval()(x).argmax().item()] == file.parent.name
    summary = json.loads((folder / 'summary.json').read_text())
    assert summary['test_accuracy'] == pytest.approx(right / 12)


def test_an_existing_name_is_refused(finished, command):
    folder, _ = finished
    before = {f: f.stat().st_mtime_ns for f in folder.rglob('*')}
    data = folder.parents[1] / 'Bilder für später'
    code, _, err = command(data=data, recipe='plateau', out=folder.parent, name='first', bs=6, valid=0.25)
    assert (code, len(err.splitlines())) == (2, 1)
    assert 'exists: choose another --name' in err
    assert {f: f.stat().st_mtime_ns for f in folder.rglob('*')} == before


def test_a_bad_or_taken_name_is_refused_before_the_images_are_loaded(tmp_path, command):
    (tmp_path / 'taken').mkdir()
    for name, said in ('taken', f'{tmp_path}/taken exists: choose another --name'), ('a/b', '--name a/b: must be one'):
        code, _, err = command(data=tmp_path / 'no such', out=tmp_path, name=name)
        assert code == 2
        assert err.startswith(f'train_fastai.py: {said}')
    assert [file.name for file in tmp_path.iterdir()] == ['taken']


def test_another_review_gives_the_same_results_even_with_moved_images(finished, command):
    folder, _ = finished
    tables = (
        'mistakes.csv', 'per_class.csv', 'faithfulness.csv', 'models/best.pth', 'history.csv', 'model_card.md',
    )  # fmt: skip
    old, summary = {f: (folder / f).read_bytes() for f in tables}, summary_of(folder)
    (folder / 'mistakes.csv').unlink()
    (folder / 'faithfulness.csv').unlink()
    (folder / 'report.html').unlink()
    (folder / 'model_card.md').write_text('an older one')
    images = folder.parents[1] / 'Bilder für später'
    moved = images.rename(images.with_name('moved'))
    try:
        code, _, err = command(review=folder)
        assert (code, err.count('\n')) == (2, 1)
        assert f'{images} is neither a folder nor a file: pass --data PATH' in err
        assert command(review=folder, data=moved)[0] == 0
    finally:
        moved.rename(images)
    assert (folder / 'report.html').exists()
    assert {f: (folder / f).read_bytes() for f in old} == old
    assert summary_of(folder) == summary


def test_faithfulness_of_maps_is_measured_and_shown(finished):
    table = pd.read_csv(finished[0] / 'faithfulness.csv', index_col='layer')
    assert list(table.index) == ['layer1', 'layer2', 'layer3', 'layer4']
    assert (table.images == 12).all()  # all test images, since that takes less than 30 s
    columns = ['over_random', 'over_centre', 'unlike_random_weights']
    assert (table.faithful == (table[columns] > table[[f'{o}_ci' for o in columns]].to_numpy()).all(axis=1)).all()
    page = (finished[0] / 'report.html').read_text()
    stamps = json.loads(page.split('id="data">')[1].split('</script>')[0])['stamps']
    assert {layer for layer, stamp in stamps.items() if stamp} == set(table.index[~table.faithful])


def test_review_of_a_model_without_usable_grad_cam_layers(learner, tmp_path, capsys):
    learn = learner()
    learn.model = resnet18(num_classes=3)  # its last layers are 1x1 for these images
    interp = review(learn, tmp_path / 'out')
    assert interp.faithfulness is None
    assert "no Grad-CAM: layer 'layer3' is 1x1" in capsys.readouterr().out
    files = {f.name for f in (tmp_path / 'out').rglob('*') if f.is_file()}
    assert files == {'mistakes.csv', 'per_class.csv', 'confusion_matrix.png'}


def test_review_runs_no_code_from_a_weights_file(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / 'handed over')
    (folder / 'models/best.pth').write_bytes(pickle.dumps(RunsCode(tmp_path / 'ran')))
    with pytest.raises(UserError, match=r'best\.pth is damaged'):
        load_run(folder)
    assert not (tmp_path / 'ran').exists()
    torch.save({'model': RunsCode(tmp_path / 'ran')}, folder / 'models/best.pth')
    with pytest.raises(UserError, match=r'best\.pth is damaged'):
        load_run(folder)
    assert not (tmp_path / 'ran').exists()
    torch.save({'fc.bias': torch.zeros(3)}, folder / 'models/best.pth')
    with pytest.raises(UserError, match=r"best\.pth doesn't hold the weights of this run"):
        load_run(folder)


def test_bad_images_are_listed_where_the_message_says(tmp_path, command, tiny):
    data, out = write_images(tmp_path / 'my images'), tmp_path / 'my runs'
    (data / 'train/red/x.png').mkdir()
    (data / 'test/red/y.png').touch()
    options = {
        'data': data,
        'recipe': 'plateau',
        'out': out,
        'epochs': 1,
        'bs': 6,
        'valid': 0.25,
        'lr': 0.01,
        'name': 'a',
    }
    table = f'"file","reason"\n"{data}/test/red/y.png","empty"\n"{data}/train/red/x.png","a folder, not a file"\n'
    for older in '', ' (replaces the older list)':
        code, printed, err = command(**options)
        assert (code, printed) == (2, '')
        assert err == (
            f"train_fastai.py: 2 files of {data} can't be used: test/red/y.png (empty), train/red/x.png (a folder, not "
            f'a file); move them elsewhere or pass --skip-bad; all are listed with the reason in '
            f'{out}/bad_images.csv{older}\n'
        )
        assert (out / 'bad_images.csv').read_text() == table
    code, printed, err = command(**options, skip_bad=True)
    assert code == 0, err
    assert f'files left out: 2; all are listed with the reason in {out}/a/bad_images.csv\n' in printed
    assert (out / 'a/bad_images.csv').read_text() == table
    assert json.loads((out / 'a/config.json').read_text())['left_out'] == 2


@pytest.mark.parametrize(('name', 'text'), [
    ('history.csv', 'epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,lr,seconds\n'),
    ('summary.json', '{"lr": 0.1, "test_selected_on": false, "seconds": Infinity}'),
    ('summary.json', '[' * 200_000),
])  # fmt: skip
def test_review_of_a_run_with_invalid_tables_changes_nothing(finished, tmp_path, command, name, text):
    folder = shutil.copytree(finished[0], tmp_path / 'copy')
    (folder / name).write_text(text)
    before = {f: f.stat().st_mtime_ns for f in folder.rglob('*') if f.is_file()}
    code, _, err = command(review=folder)
    assert (code, err.count('\n')) == (2, 1)
    assert f'{name} is not a valid {name} of a run' in err
    assert {f: f.stat().st_mtime_ns for f in folder.rglob('*') if f.is_file()} == before


def test_a_model_without_images_cannot_train_and_its_run_is_unchanged(finished):
    learn = load_model(finished[0])
    before = (finished[0] / 'history.csv').read_bytes()
    for use in fit, find_lr, GradCAMInterpretation.from_learner:
        with pytest.raises(UserError, match=r'no training images|no images to'):
            use(learn)
    assert (finished[0] / 'history.csv').read_bytes() == before


def test_review_of_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r'^.* is not a finished run: it has no summary\.json$'):
        load_run(tmp_path)


def test_review_of_other_images_is_refused(finished):
    folder, _ = finished
    image = folder.parents[1] / 'Bilder für später/test/red/00.png'
    pixels = image.read_bytes()
    Image.new('RGB', (16, 16)).save(image)
    try:
        with pytest.raises(UserError, match=r'does not have the images .* was started with'):
            load_run(folder)
    finally:
        image.write_bytes(pixels)


def test_a_network_that_cannot_take_the_images_creates_no_run(folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(data=str(folder), out=str(tmp_path / 'runs'), bs=6, valid=0.25, arch='alexnet')
    assert re.fullmatch(
        r"train_fastai.py: --arch alexnet can't take images of 16x16 \(.*\): use --size 63\n",
        capsys.readouterr().err,
    )
    assert not (tmp_path / 'runs').exists()


def test_a_resumed_run_on_the_digits_keeps_its_recipe_with_any_path(tmp_path, command, tiny, monkeypatch):
    recipes = []
    monkeypatch.setattr('train_fastai.finish', lambda learn, *args, **kwargs: recipes.append(learn.recipe))
    assert command(data='digits', out=tmp_path, name='r')[0] == 0
    assert command(resume=tmp_path / 'r', data=get_source('digits'))[0] == 0
    assert recipes == [recipe_for('digits')] * 2


@pytest.mark.slow
def test_images_of_any_size_in_class_folders_with_another_network(tmp_path, command):
    for name, size, n in ('a', (72, 100), 12), ('b', (90, 50), 20):
        write_images(tmp_path / name, train=n, test=0, size=size)
    images = tmp_path / 'my images'
    (tmp_path / 'a/train').rename(images)
    for file in sorted((tmp_path / 'b/train/red').iterdir()):
        file.rename(images / 'red' / f'b{file.name}')
    options = {'recipe': 'plateau', 'size': 48, 'arch': 'mobilenet_v3_small', 'epochs': 2, 'bs': 6, 'lr': 0.01}
    code, printed, err = command(data=images, **options, out=tmp_path, name='first')
    assert (code, err) == (0, '')
    assert printed.startswith(
        'there is no test/: 11 of the 56 images are the test set, the same in every run\n'
        'images are cropped and resized to 48x48, one by one (--size chooses another size)\n'
        f'{images}: 41 training, 4 validation, 11 test images\n'
        'the classes are unbalanced: 24 training images of red, 8 of blue; the accuracy says more about the large '
        'ones, per_class.csv about each\n'
    )
    summary = summary_of(tmp_path / 'first')
    assert summary['training_images'] == {'blue': 8, 'green': 9, 'red': 24}
    assert summary['imbalance'].startswith('the classes are unbalanced: 24 ')
    assert 'The classes are unbalanced: 24 training images' in (tmp_path / 'first/report.html').read_text()
    rows = list(csv.DictReader((tmp_path / 'first/per_class.csv').open()))
    assert [(row['class'], int(row['images'])) for row in rows] == [('blue', 3), ('green', 2), ('red', 6)]
    right = sum(float(row['recall']) * int(row['images']) for row in rows)
    assert right / 11 == pytest.approx(summary['test_accuracy'])
    layers = pd.read_csv(tmp_path / 'first/faithfulness.csv').layer
    assert list(layers) == ['features.0', 'features.1', 'features.3', 'features.8', 'features']

    old = {f: (tmp_path / 'first' / f).read_bytes() for f in ('mistakes.csv', 'per_class.csv')}
    assert command(review=tmp_path / 'first')[0] == 0
    assert {f: (tmp_path / 'first' / f).read_bytes() for f in old} == old
    assert summary_of(tmp_path / 'first') == summary
    assert command(config=tmp_path / 'first/config.json', out=tmp_path, name='again')[0] == 0
    weights = [torch.load(tmp_path / name / 'models/best.pth', weights_only=True) for name in ('first', 'again')]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
def test_a_pretrained_run_is_reviewed_without_the_published_weights(folder, tmp_path, command, monkeypatch):
    hub = tmp_path / 'torch/hub/checkpoints'
    hub.mkdir(parents=True)
    torch.save(resnet18().state_dict(), hub / 'resnet18-f37072fd.pth')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')
    options = {'data': folder, 'recipe': 'plateau', 'size': 32, 'epochs': 1, 'bs': 6, 'lr': 0.01, 'valid': 0.25}
    options['pretrained'] = True
    code, _, err = command(**options, out=tmp_path, name='r')
    assert code == 0, err
    recipe = json.loads((tmp_path / 'r/config.json').read_text())['recipe']
    assert (recipe['pretrained'], recipe['mean']) == (True, [0.485, 0.456, 0.406])
    (hub / 'resnet18-f37072fd.pth').unlink()
    (tmp_path / 'r/report.html').unlink()
    code, _, err = command(review=tmp_path / 'r')
    assert code == 0, err
    assert (tmp_path / 'r/report.html').exists()
    code, _, err = command(**options, out=tmp_path, name='s')
    assert (code, err.count('\n')) == (2, 1)
    assert f'--pretrained: {hub}/resnet18-f37072fd.pth is missing' in err
    assert not (tmp_path / 's').exists()


def test_validating_on_the_test_set_is_reported(folder, tmp_path, command, tiny):
    code, out, err = command(
        data=folder, recipe='plateau', out=tmp_path, name='r', epochs=1, bs=6, lr=0.01, valid='test'
    )
    assert code == 0, err
    assert 'This test accuracy is optimistic' in out
    assert json.loads((tmp_path / 'r/summary.json').read_text())['test_selected_on'] is True
    assert not (tmp_path / 'r/plots/lr_find.png').exists()


def test_auto_trains_small_images_by_the_recipe_of_the_hardware(folder, tmp_path, tiny, command):
    code, out, err = command(data=folder, out=tmp_path, name='r', epochs=1, bs=6)
    assert (code, err) == (0, '')
    expected = 'speedrun' if default_device().type == 'cpu' else 'plateau'
    assert out.splitlines()[0].startswith(f'recipe {expected}: small images and ')
    assert json.loads((tmp_path / 'r/config.json').read_text())['options']['recipe'] == expected
    # a repeated run has the recipe of the run, not what auto would choose
    given = {'out': tmp_path, 'epochs': 1, 'bs': 6, 'valid': 0.25, 'lr': 0.01}
    assert command(data=folder, recipe='plateau', name='p', **given)[0] == 0
    code, out, _ = command(config=tmp_path / 'p', out=tmp_path, name='again')
    assert code == 0
    assert 'recipe ' not in out
    assert json.loads((tmp_path / 'again/config.json').read_text())['options']['recipe'] == 'plateau'


@pytest.mark.parametrize(('option', 'message'), [
    ({'epochs': 0}, '--epochs 0: at least 1'),
    ({'bs': 1}, '--bs 1: at least 2'),
    ({'lr': -1.0}, '--lr -1.0: a number above 0, or auto'),
    ({'lr': 'fast'}, '--lr fast: a number above 0, or auto'),
    ({'lr': float('nan')}, '--lr nan: a number above 0, or auto'),
    ({'valid': 1.0}, '--valid 1.0: at least 0 and below 1, or test'),
    ({'valid': 'some'}, '--valid some: at least 0 and below 1, or test'),
    ({'fraction': 0.0}, '--fraction 0.0: above 0, at most 1'),
    ({'seed': -1}, '--seed -1: from 0 to'),
    ({'workers': -1}, '--workers -1: 0 or more'),
    ({'data': 'no/such/place'}, 'no/such/place is neither a folder nor a file'),
    ({'arch': 'resnet81'}, '--arch resnet81: torchvision has no classifier of that name; did you mean resnet18'),
    ({'size': 8}, '--size 8: from 16 to 4096 pixels'),
    ({'pretrained': True, 'recipe': 'speedrun'}, '--pretrained: this recipe is made for its own small network'),
])  # fmt: skip
def test_an_invalid_option_is_a_one_line_error_and_creates_no_run(option, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as e:
        main(out=str(tmp_path / 'runs'), **option)
    assert e.value.code == 2
    said = capsys.readouterr().err
    assert re.match(f'train_fastai.py: (/.*)?{re.escape(message)}', said)
    assert said.count('\n') == 1
    assert not (tmp_path / 'runs').exists()


def test_a_diverging_learning_rate_is_a_one_line_error(folder, tmp_path, command, tiny):
    code, out, err = command(data=folder, recipe='plateau', out=tmp_path, name='r', epochs=1, bs=6, valid=0.25, lr=1e30)
    assert code == 2
    assert re.search(r'the loss is (nan|inf) at epoch 1, batch \d, lr 1e\+30: training stops', out)
    assert re.fullmatch(r'train_fastai\.py: valid_loss never got better than inf: .* Try an lr below 1e\+30\n', err)
    assert not (tmp_path / 'r/models/best.pth').exists()


def test_without_cifar10_and_network_the_error_names_both_alternatives(tmp_path, command, monkeypatch):
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')  # a proxy that refuses at once simulates no network
    code, _, err = command(out=tmp_path / 'runs')
    assert (code, err.count('\n')) == (2, 1)
    assert '--data PATH' in err
    assert '--data digits' in err
    assert not (tmp_path / 'runs').exists()


def test_the_steps_work_in_a_repl(learner):
    learn = learner()
    sweep = find_lr(learn)
    history = fit(learn, 2, sweep.lr)
    assert list(history.epoch) == [0, 1]
    interp = GradCAMInterpretation.from_learner(learn)
    assert interp.confusion_matrix().sum() == 12
    assert sum(n for _, _, n in interp.most_confused()) == (interp.decoded != interp.targs).sum()
    assert len(interp.plot_top_losses(3).axes) == 3 * (1 + 4)
    interp.plot_confusion_matrix()
    learn.show_results()
    learn.dls.show_batch()
    plt.close('all')


def test_the_readmes_notebook_code_runs(folder, tmp_path, monkeypatch):
    (block,) = re.findall(r'## In a notebook.*?```python\n(.*?)```', (ROOT / 'README.md').read_text(), flags=re.S)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('training.learner.get_model', tiny_model)
    names = {}
    exec(
        block.replace("'digits'", f'{str(folder)!r}, bs=4, valid=0.25')
        .replace('fit(learn, 5', 'fit(learn, 1')
        .replace('fit(learn, 8', 'fit(learn, 2'),
        names,
    )
    assert len(names['interp'].targs) == 12
    plt.close('all')


@pytest.mark.parametrize('recipe', [PLATEAU, REFERENCE])
def test_the_optimiser_has_the_recipes_values(learner, recipe):
    learn = learner(replace(recipe, bs=4))
    fit(learn, 1, find_lr(learn).lr)
    groups = learn.opt.opt.param_groups  # torch's optimiser, after fastai has set its values
    for group in groups:
        assert (group['momentum'], group['nesterov']) == (recipe.mom, recipe.nesterov)
        assert group['weight_decay'] == recipe.wd  # torch's SGD adds it to the gradient: L2
    trained = [p for group in groups for p in group['params']]
    assert sum(p.numel() for p in trained) == sum(p.numel() for p in learn.model.parameters())


def test_norm_biases_and_filters_have_their_own_learning_rates(learner):
    learn = learner(replace(SPEEDRUN, arch='resnet18', bs=4, muon=0.5), valid=0)  # tiny_net
    fit(learn, 1, 0.01)
    assert isinstance(learn.opt.opt, Muon)
    biases, filters, others, head = learn.opt.opt.param_groups
    layers = [getattr(learn.model, f'layer{i}') for i in (1, 2, 3, 4)]
    assert {id(p) for p in biases['params']} == {id(layer[1].bias) for layer in layers}
    assert {id(p) for p in filters['params']} == {id(layer[0].weight) for layer in layers}
    assert len(others['params']) == 4 * 2
    assert {id(p) for p in head['params']} == {id(p) for p in learn.model.fc.parameters()}
    lr = head['lr']
    assert (biases['lr'], filters['lr'], others['lr']) == pytest.approx((64 * lr, 0.5 * lr, lr))
    assert biases['weight_decay'] * 64 == pytest.approx(others['weight_decay']) == SPEEDRUN.wd


def test_without_muon_filters_have_no_group_of_their_own(learner):
    learn = learner(replace(SPEEDRUN, arch='resnet18', bs=4, muon=0.0), valid=0)
    fit(learn, 1, 0.01)
    assert type(learn.opt.opt) is torch.optim.SGD
    assert [len(group['params']) for group in learn.opt.opt.param_groups] == [4, 4 * 3, 2]


def test_a_network_without_batchnorm_trains_with_a_bias_learning_rate(folder, tmp_path):
    recipe = replace(SPEEDRUN, arch='squeezenet1_1', bs=4)
    learn = get_learner(get_dls(folder, recipe, size=32, seed=0), path=tmp_path)
    before = [p.clone() for p in learn.model.parameters()]
    fit(learn, 1, 1e-3)
    assert not any(torch.equal(p.cpu(), old) for p, old in zip(learn.model.parameters(), before, strict=True))
    assert [len(group['params']) for group in learn.opt.opt.param_groups] == [
        0,
        25,
        25,
        2,
    ]  # norms, filters, rest, head


def test_compile_is_passed_to_fit_and_kept_on_resume(folder, tmp_path, command, tiny, monkeypatch):
    asked = []
    monkeypatch.setattr('train_fastai.refuse_uncompilable', lambda: asked.append('whether it works'))
    monkeypatch.setattr('train_fastai.fit', lambda *args: asked.append(args[-1]) or sys.exit(0))
    options = {'data': folder, 'recipe': 'plateau', 'bs': 4, 'valid': 0.25, 'lr': 0.01, 'out': tmp_path}
    command(**options, name='eager')
    command(**options, name='compiled', compile=True)
    command(resume=tmp_path / 'compiled')
    command(config=tmp_path / 'compiled', out=tmp_path, name='eager again', compile=False)
    assert asked == [False, *['whether it works', True] * 2, False]


def test_speedrun_trains_on_all_images_and_saves_the_last_epoch(folder, tmp_path, command):
    code, out, err = command(data=folder, recipe='speedrun', out=tmp_path, name='r', epochs=3, bs=6)
    assert code == 0, err
    assert '24 training, 0 validation, 12 test images' in out
    summary = summary_of(tmp_path / 'r')
    assert (summary['best_epoch'], summary['best_valid_accuracy'], summary['lr']) == (2, None, SPEEDRUN.lr)
    assert not (tmp_path / 'r/sweep.json').exists()
    page = (tmp_path / 'r/report.html').read_text()
    assert '<dt>Last epoch</dt><dd>3<small>no images were held out</small></dd>' in page
    assert 'Best epoch' not in page
    assert command(review=tmp_path / 'r')[0] == 0
    assert summary_of(tmp_path / 'r') == summary


def test_predict_and_test_dl(learner):
    learn = learner()
    files = learn.dls[2].dataset.items[:5]
    label, index, probabilities = learn.predict(files[0])
    assert label == learn.dls.vocab[index]
    assert probabilities.sum() == pytest.approx(1)
    for same in (str(files[0]), files[0].read_bytes(), np.asarray(Image.open(files[0])), PILImage.create(files[0])):
        assert torch.equal(learn.predict(same)[2], probabilities)
    preds, _ = learn.get_preds(dl=learn.dls.test_dl(files))
    torch.testing.assert_close(preds[0].as_subclass(torch.Tensor), probabilities.as_subclass(torch.Tensor))


def test_learner_can_be_exported_and_loaded(learner):
    from fastai.learner import load_learner

    learn = learner()
    file = learn.dls[2].dataset.items[0]
    expected = learn.predict(file)[2]
    learn.export()
    torch.testing.assert_close(load_learner(learn.path / 'export.pkl').predict(file)[2], expected)
