"""The results of a finished run: in the terminal, summary.json, the page and the model card."""

import hashlib
import json
import re
import shutil
import sys

import pandas as pd
import pytest
from tiny import TINY, tiny_dls, tiny_model, write_images, write_run

from config.saved import read_config
from interpret.interpretation import GradCAMInterpretation
from interpret.review import CIFAR10, COURSE_PROJECT, review_run
from runtime.files import write_json
from runtime.tensor_file import load_tensors
from training.learner import get_learner

SWEEP = {
    'lr': 0.2,
    'rule': 'valley',
    'reason': 'half way along',
    'suggestions': {'valley': 0.2},
    'lrs': [0.1, 0.2, 1.0],
    'losses': [2.0, 1.0, 3.0],
    'seconds': 4.0,
}


@pytest.fixture
def ended(tmp_path, monkeypatch, capsys):
    """Finish an untrained run on `data`; return the printed output and the run folder."""
    for user in ('training.learner', 'tiny'):
        monkeypatch.setattr(f'{user}.get_model', tiny_model)

    def review(learn, out, seconds):  # without slow pictures
        interp = GradCAMInterpretation.from_learner(learn)
        interp.mistakes(None).to_csv(out / 'mistakes.csv')
        return interp

    monkeypatch.setattr(sys.modules['interpret.review'], 'review', review)

    def end(data, **options):
        dls = tiny_dls(data, **options)
        run = write_run(tmp_path / 'runs', data, classes=dls.vocab, size=dls.size)
        config = json.loads((run / 'config.json').read_text())
        config['options'].update(options, valid=options.get('valid', 0.25))
        write_json(run / 'config.json', {**config, 'images': dls.fingerprint})
        row = {'epoch': 0, 'train_loss': 1.5, 'train_accuracy': 0.5, 'valid_loss': 1.0, 'valid_accuracy': 0.5}
        history = pd.DataFrame([{**row, 'lr': 0.1, 'seconds': 1.0}])
        history.to_csv(run / 'history.csv', index=False)
        capsys.readouterr()
        learn = get_learner(dls, TINY, run)
        learn.model.load_state_dict(load_tensors(run / 'models/best.pth'))
        write_json(run / 'sweep.json', SWEEP)
        dls.seconds = 12.34
        interp = review_run(learn, history, read_config(run).config)
        assert interp.losses.mean().item() == summary_of(run)['test_loss']
        assert (summary_of(run)['lr'], summary_of(run)['seconds']) == (0.2, 1.0 + 4.0)
        assert review_run(learn, history, read_config(run).config) is None  # the page exists
        return capsys.readouterr().out, run

    return end


def summary_of(run):
    return json.loads((run / 'summary.json').read_text())


def without_review(summary):
    """The summary without the seconds of its review."""
    return {**summary, 'phases': {**summary['phases'], 'review': None}}


def said_on_page_and_card(run) -> str:
    return (run / 'report.html').read_text() + (run / 'model_card.md').read_text()


def test_accuracy_without_leaked_test_images_is_reported(folder, ended, command):
    for i in (1, 2, 3):  # of the four test images of class blue
        shutil.copy(folder / f'train/red/0{i}.png', folder / f'test/blue/0{i}.png')
    out, run = ended(folder, valid='test')
    leaks = {f'test/blue/{i:02}.png' for i in (1, 2, 3)}
    wrong = pd.read_csv(run / 'mistakes.csv').file
    expected = 1 - (~wrong.isin(leaks)).sum() / 9
    summary = summary_of(run)
    assert summary['test_accuracy'] == pytest.approx(1 - len(wrong) / 12)
    mistakes = pd.read_csv(run / 'mistakes.csv')
    missed, false = (mistakes[name].value_counts() for name in ('actual', 'predicted'))
    right = {name: 4 - missed.get(name, 0) for name in ('blue', 'green', 'red')}
    f1 = [2 * n / (2 * n + missed.get(name, 0) + false.get(name, 0)) for name, n in right.items()]
    assert summary['macro_f1'] == pytest.approx(sum(f1) / 3)
    assert summary['balanced_accuracy'] == pytest.approx(sum(right.values()) / 12)
    assert summary['top_5_accuracy'] is None
    balanced = f'{summary["balanced_accuracy"]:.2%}'
    assert f'balanced over the classes: {balanced}' in (run / 'report.html').read_text()
    assert f'is {balanced}.' in (run / 'model_card.md').read_text()
    assert summary['leaked_test_images'] == 3
    assert summary['test_accuracy_without_leaked'] == pytest.approx(expected)
    line = f'the 3 of 12 test images that are in the training or validation set too the test accuracy is {expected:.2%}'
    assert f'\nwithout {line}\n' in out
    assert said_on_page_and_card(run).count(f'Without {line}') == 2

    code, out, err = command(review=run, workers=0)
    assert code == 0, err
    assert '(test images that are in the training or validation set too: 3; in two classes: 3)' in out
    assert f'\nwithout {line}\n' in out
    assert without_review(summary_of(run)) == without_review(summary)
    assert {*pd.read_csv(run / 'duplicates.csv').file} == leaks


def test_verdicts_correct_test_labels(folder, ended, command, tmp_path):
    _, run = ended(folder)
    assert summary_of(run)['corrected'] is None
    row = pd.read_csv(run / 'mistakes.csv').iloc[0]
    verdicts = tmp_path / 'verdicts.csv'
    pd.DataFrame([{**row, 'verdict': 'label wrong', 'right_class': row.predicted}]).to_csv(verdicts, index=False)
    code, out, err = command(review=run, workers=0, verdicts=verdicts)
    assert code == 0, err
    summary = summary_of(run)
    corrected, accuracy = summary['corrected'], summary['test_accuracy'] + 1 / 12
    assert corrected['test_accuracy'] == pytest.approx(accuracy)
    assert (corrected['corrected_labels'], corrected['left_out'], corrected['images']) == (1, 0, 12)
    assert (
        f'with corrected labels (corrected: 1, images left out: 0) the test accuracy is {accuracy:.2%}, 95% inter'
        in out
    )
    assert f'<dt>With corrected labels</dt><dd>{accuracy:.2%}<small>' in (run / 'report.html').read_text()
    assert (run / 'plots/confusion_matrix_corrected.png').is_file()

    verdicts.write_text('file,actual\n')
    before = (run / 'summary.json').read_bytes()
    code, out, err = command(review=run, workers=0, verdicts=verdicts)
    assert (code, out) == (2, '')
    assert err.startswith(
        f'train_fastai.py: {verdicts} is not a valid table of verdicts, with the columns file, actual'
    )
    assert (run / 'summary.json').read_bytes() == before
    assert command(verdicts=verdicts)[::2] == (2, 'train_fastai.py: --verdicts goes with --review\n')

    assert command(review=run, workers=0)[0] == 0
    assert summary_of(run)['corrected'] is None
    assert not (run / 'plots/confusion_matrix_corrected.png').exists()


def test_seconds_of_each_phase_are_printed_and_kept(folder, ended, command, monkeypatch):
    times = iter([100, 107.77, 0, 200, 203.2, 300, 300.5])  # the third is of a review that keeps its page
    monkeypatch.setattr(sys.modules['interpret.review'], 'perf_counter', times.__next__)
    out, run = ended(folder)
    phases = {'images': 12.3, 'sweep': 4.0, 'training': 1.0, 'review': 7.8}
    assert (summary_of(run)['phases'], list(summary_of(run)['phases'])) == (phases, list(phases))
    assert '\n12 s images, 4 s sweep, 1 s training, 8 s review\n' in out

    code, out, err = command(review=run, workers=0)
    assert code == 0, err
    assert summary_of(run)['phases'] == {**phases, 'review': 3.2}
    assert '\n12 s images, 4 s sweep, 1 s training, 3 s review\n' in out

    earlier = {name: value for name, value in summary_of(run).items() if name != 'phases'}
    write_json(run / 'summary.json', earlier)
    code, out, err = command(review=run, workers=0)
    assert code == 0, err
    assert summary_of(run) == {**earlier, 'phases': {'training': 1.0, 'review': 0.5}}
    assert '\n1 s training, 0 s review\n' in out


def test_fully_leaked_test_set_is_reported(folder, ended):
    shutil.rmtree(folder / 'test')
    shutil.copytree(folder / 'train', folder / 'test')
    out, run = ended(folder)
    assert '\nall 24 test images are in the training or validation set too: this test accuracy says nothing' in out
    summary = summary_of(run)
    assert (summary['leaked_test_images'], summary['test_accuracy_without_leaked']) == (24, None)
    assert said_on_page_and_card(run).count('All 24 test images are in the training') == 2


@pytest.fixture
def classes_of_cifar10(tmp_path):
    """Ten classes with CIFAR-10's names and other images."""
    images = tmp_path / 'images'
    for i, name in enumerate(CIFAR10):
        write_images(tmp_path / name, train=8, test=1, size=(16 + i, 16))
        for split in 'train', 'test':
            (images / split).mkdir(parents=True, exist_ok=True)
            (tmp_path / name / split / 'red').rename(images / split / name)
    return images


def test_class_names_alone_do_not_make_it_cifar10(classes_of_cifar10, ended):
    out, run = ended(classes_of_cifar10, size=16)
    assert 'course project' not in out + said_on_page_and_card(run)
    assert summary_of(run)['course_project'] is None


@pytest.mark.parametrize('options', [{}, {'fraction': 0.5}, {'seed': 7}])
def test_cifar10_is_recognised_by_its_test_images(classes_of_cifar10, ended, monkeypatch, options):
    test = classes_of_cifar10 / 'test'
    contents = sorted(hashlib.sha256(file.read_bytes()).digest() for file in test.glob('*/*'))
    monkeypatch.setattr(sys.modules['interpret.review'], 'JPEG_CIFAR10', hashlib.sha256(b''.join(contents)).hexdigest())
    (test / 'cat/00.png').rename(test / 'cat/another name.png')
    out, run = ended(classes_of_cifar10, size=16, **options)
    assert re.search(r'^max train accuracy +\d+\.\d\d% +91\.76%$', out, flags=re.M)
    assert re.search(r'^test accuracy +\d+\.\d\d% +90\.33%$', out, flags=re.M)
    assert summary_of(run)['course_project'] == COURSE_PROJECT


def test_downloaded_cifar10_is_cifar10(classes_of_cifar10, ended, command, monkeypatch, tmp_path):
    monkeypatch.setattr('data.sources._cifar10', lambda: classes_of_cifar10)
    out, run = ended('cifar10', size=16)
    assert 'course project (CIFAR-10)' in out
    moved = classes_of_cifar10.rename(tmp_path / 'moved')
    code, out, _ = command(review=run, data=moved)
    assert code == 0
    assert 'course project (CIFAR-10)' in out


def test_a_flat_test_folder_is_predicted_in_the_run_folder(folder, ended):
    before = {file for file in folder.rglob('*') if 'test' not in file.parts}
    for file in sorted((folder / 'test').glob('*/*')):
        file.rename(folder / f'test/{file.parent.name}{file.name}')
    for name in 'red', 'green', 'blue':
        (folder / 'test' / name).rmdir()
    out, run = ended(folder)
    table = pd.read_csv(run / 'predictions.csv')
    assert list(table.file) == sorted(f'test/{name}0{i}.png' for name in ('red', 'green', 'blue') for i in range(4))
    assert {*table['class']} <= {'red', 'green', 'blue'}
    assert table.probability.between(1 / 3, 1).all()
    assert f'images without labels: 12; predicted in {run / "predictions.csv"}\n' in out
    assert sum(summary_of(run)['training_images'].values()) == 14  # of 24: 5 are the test set, 5 validate
    assert {file for file in folder.rglob('*') if 'test' not in file.parts} == before


def test_a_run_on_a_csv_is_reviewed_again(folder, ended, command, tmp_path):
    rows = [(file.relative_to(tmp_path).as_posix(), f'a {file.parent.name}') for file in folder.glob('*/*/*')]
    pd.DataFrame(rows, columns=['file', 'label']).to_csv(tmp_path / 'labels.csv', index=False)
    _, run = ended(tmp_path / 'labels.csv')
    assert {*pd.read_csv(run / 'mistakes.csv').actual} <= {'a blue', 'a green', 'a red'}
    code, _, err = command(review=run, workers=0)
    assert (code, err) == (0, '')
    text = (tmp_path / 'labels.csv').read_text()
    (tmp_path / 'labels.csv').write_text(text.replace('a red', 'a rose'))
    code, _, err = command(review=run, workers=0)
    assert code == 2
    assert 'does not have the images' in err
