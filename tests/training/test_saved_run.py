"""Interrupted runs, resumed runs, and files of damaged or foreign runs."""

import csv
import json
import os
import runpy
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from time import sleep

import pandas as pd
import pytest
import torch
from forked import Forked
from tiny import tiny_dls, write_images

from data.fingerprint import fingerprint_images, refuse_other_images
from runtime.errors import UserError
from runtime.run_folder import environment, name_changes
from training.saved_run import load_model, load_run, read_history, read_summary

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'train_fastai.py'
SMALL = 'mobilenet_v3_small'  # has dropout and BatchNorm, and an epoch takes a third of a second
pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='POSIX signals and limits')


def ending(folder):
    rows = [{**row, 'seconds': None} for row in csv.DictReader((folder / 'history.csv').open())]
    weights = torch.load(folder / 'models/best.pth', weights_only=True)
    accuracy = json.loads((folder / 'summary.json').read_text())['test_accuracy']
    bits = {name: tensor.numpy().tobytes() for name, tensor in weights.items()}
    return rows, bits, accuracy, (folder / 'mistakes.csv').read_text()


@pytest.mark.slow
def test_an_often_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, command):
    data = write_images(tmp_path / 'Bilder für später', size=(32, 32))
    folder = tmp_path / 'the runs/ein Lauf'
    images = {file: file.stat().st_mtime_ns for file in data.rglob('*')}
    way = f"to resume: python train_fastai.py --resume '{folder}'\n"

    # a worker is killed
    process = Forked(SCRIPT, '--data', data, '--out', folder.parent, '--name', folder.name, '--epochs', 8, '--bs', 6,
                     '--valid', 0.25, '--lr', 0.01, '--arch', SMALL, '--workers', 2)  # fmt: skip
    process.until('epoch 1/8 ')
    workers = Path(f'/proc/{process.pid}/task/{process.pid}/children')
    while process.is_alive():
        for pid in workers.read_text().split() if workers.exists() else ():
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(int(pid), signal.SIGKILL)
        sleep(0.001)
    code, _, err = process.end()
    assert code == 2
    assert err.startswith(way)
    assert 'a data loader worker was killed' in err
    assert err.count('\n') == 2

    # the disk is full
    code, _, err = Forked(SCRIPT, '--resume', folder, limit=2**20).end()
    assert code == 2
    assert err == f'{way}train_fastai.py: {folder}/models/best.pth: File too large\n' or (
        err == f'{way}train_fastai.py: {folder}/models/last.pth: File too large\n'
    )
    assert not list(folder.rglob('.*.part'))

    # the scheduler sends SIGTERM
    process = Forked(SCRIPT, '--resume', folder, '--workers', 2)
    process.until('epoch 4/8 ')
    os.killpg(process.pid, signal.SIGTERM)
    code, _, err = process.end()
    assert code == 130
    assert err.endswith(f'{way}train_fastai.py: interrupted\n')
    assert 'Traceback' not in err

    # another process uses the run
    process = Forked(SCRIPT, '--resume', folder)
    process.until('going on at epoch')
    code, _, err = command(resume=folder)
    assert (code, err.count('\n')) == (2, 1)
    assert 'is in use by another process' in err
    assert process.end()[0] == 0
    assert command(resume=folder) == (0, f'{folder} is finished, see {folder / "report.html"}\n', '')

    # an uninterrupted run from the same config.json
    options = ['--config', folder / 'config.json', '--workers', 0, '--out', folder.parent, '--name', 'alone']
    code, _, err = Forked(SCRIPT, *options).end()
    assert (code, err) == (0, '')
    assert ending(folder.with_name('alone')) == ending(folder)
    assert {file: file.stat().st_mtime_ns for file in data.rglob('*')} == images  # nothing is written to the data


def test_a_folder_without_a_run_is_refused_in_one_line(tmp_path, command):
    code, out, err = command(resume=tmp_path)
    assert (code, out) == (2, '')
    assert err == f'train_fastai.py: {tmp_path}/config.json: No such file or directory\n'


def test_other_images_are_refused(folder, tmp_path):
    images = fingerprint_images(tiny_dls(folder))
    refuse_other_images(tiny_dls(folder), images, tmp_path / 'run')
    image = folder / 'train/red/00.png'
    image.write_bytes((folder / 'train/red/01.png').read_bytes())
    with pytest.raises(
        UserError, match=r'^.*images does not have the images .*run was started with: restore them or pass'
    ):
        refuse_other_images(tiny_dls(folder), images, tmp_path / 'run')


def test_changed_versions_are_named(capsys):
    now = environment()
    name_changes(now)
    assert capsys.readouterr().out == ''
    name_changes({**now, 'torch': '2.0', 'code': 'another'})
    assert capsys.readouterr().out.splitlines() == [
        f'changed since the run began: torch, 2.0 -> {now["torch"]}',
        f'changed since the run began: code, another -> {now["code"]}',
    ]


def test_any_change_of_the_code_changes_its_fingerprint(tmp_path):
    def fingerprint(folder):
        return runpy.run_path(str(folder / 'runtime/run_folder.py'))['environment']()['code']

    code = tmp_path / 'code'
    shutil.copytree(ROOT, code, ignore=lambda folder, names: {n for n in names if n.startswith('.') or n == 'results'})
    before = fingerprint(code)
    (code / 'callbacks/stop_on_nan.py').write_text((code / 'callbacks/stop_on_nan.py').read_text() + '\n')
    assert before == fingerprint(ROOT) != fingerprint(code)


def test_escape_codes_of_a_config_do_not_reach_the_terminal(capsys):
    name_changes({**environment(), 'python': '\x1b]0;owned\x07\x1b[31m'})
    out = capsys.readouterr().out
    assert out.startswith('changed since the run began: python, \\x1b]0;owned\\x07\\x1b[31m -> ')
    assert out.removesuffix('\n').isprintable()


@pytest.mark.parametrize('place', ['.lock', 'models', 'plots'])
def test_every_command_refuses_links_in_a_run_first(run, place, tmp_path, command):
    home = tmp_path / 'home'
    (home / 'tmp_work').mkdir(parents=True)
    (home / 'tmp_work/thesis.txt').write_text('thesis')
    (run / 'summary.json').write_text('{}')
    if (run / place).is_dir():
        (run / place).rename(tmp_path / 'elsewhere')
    (run / place).symlink_to(home)
    for use in load_model, load_run:
        with pytest.raises(UserError, match=f'{place} is a link'):
            use(run)
    for mode in 'resume', 'review':
        code, out, err = command(**{mode: run})
        assert (code, out) == (2, '')
        assert f'{place} is a link' in err
    assert [file.name for file in home.rglob('*')] == ['tmp_work', 'thesis.txt']


SUMMARY = {'lr': 0.1, 'seconds': 3}
HISTORY = {
    'epoch': 0, 'train_loss': 1.0, 'train_accuracy': 0.5, 'valid_loss': 1.0, 'valid_accuracy': 0.5, 'lr': 0.1,
    'seconds': 2.0,
}  # fmt: skip


def test_reads_summary_and_history_of_a_finished_run(tmp_path):
    (tmp_path / 'summary.json').write_text(json.dumps({**SUMMARY, 'test_accuracy': 0.5}))
    assert read_summary(tmp_path) == {**SUMMARY, 'phases': {}}  # of an earlier version
    phases = {'images': 12, 'sweep': 3.5, 'training': 100, 'review': 9, 'others': 'x'}
    (tmp_path / 'summary.json').write_text(json.dumps({**SUMMARY, 'phases': phases}))
    assert read_summary(tmp_path) == {**SUMMARY, 'phases': {'images': 12, 'sweep': 3.5}}
    pd.DataFrame([HISTORY, {**HISTORY, 'epoch': 1}]).to_csv(tmp_path / 'history.csv', index=False)
    assert read_history(tmp_path).epoch.tolist() == [0, 1]
    pd.DataFrame([{**HISTORY, 'valid_loss': None, 'valid_accuracy': None}]).to_csv(
        tmp_path / 'history.csv', index=False
    )
    assert read_history(tmp_path).valid_loss.isna().all()  # nothing was held out


@pytest.mark.parametrize('name', SUMMARY)
@pytest.mark.parametrize('value', [None, 'x', -1, [], {}, float('nan'), float('inf'), 1e300, '\x1b[31m'])
def test_a_summary_of_other_values_is_refused(name, value, tmp_path):
    (tmp_path / 'summary.json').write_text(json.dumps({**SUMMARY, name: value}))
    with pytest.raises(UserError, match=r'summary\.json is not a valid summary\.json of a run') as e:
        read_summary(tmp_path)
    assert str(e.value).isprintable()
    (tmp_path / 'summary.json').write_text(json.dumps({k: v for k, v in SUMMARY.items() if k != name}))
    with pytest.raises(UserError, match=r'summary\.json is not a valid summary\.json of a run'):
        read_summary(tmp_path)


@pytest.mark.parametrize('phases', [None, 3, {'images': 'x'}, {'sweep': -1}, {'images': [1]}])
def test_phases_of_other_values_are_refused(phases, tmp_path):
    (tmp_path / 'summary.json').write_text(json.dumps({**SUMMARY, 'phases': phases}))
    with pytest.raises(UserError, match=r'summary\.json is not a valid summary\.json of a run'):
        read_summary(tmp_path)


@pytest.mark.parametrize('name', HISTORY)
def test_a_history_of_other_values_is_refused(name, tmp_path):
    losses = 'train_loss', 'valid_loss'
    odd = ['x', '[1]'] + ([] if name in losses else [-1, float('inf'), 1e300])
    for value in odd + ([] if name in (*losses, 'valid_accuracy') else [None]):
        pd.DataFrame([HISTORY, {**HISTORY, name: value}]).to_csv(tmp_path / 'history.csv', index=False)
        with pytest.raises(UserError, match=r'history\.csv is not a valid history\.csv of a run'):
            read_history(tmp_path)
    pd.DataFrame([HISTORY]).drop(columns=name).to_csv(tmp_path / 'history.csv', index=False)
    with pytest.raises(UserError, match=r'history\.csv is not a valid history\.csv of a run'):
        read_history(tmp_path)
    pd.DataFrame([HISTORY])[:0].to_csv(tmp_path / 'history.csv', index=False)
    with pytest.raises(UserError, match='no epochs'):
        read_history(tmp_path)
