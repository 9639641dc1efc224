import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.errors import UserError
from runtime.files import fingerprint, write_json
from runtime.run_folder import environment, locked, new_run, open_run, remove_leftovers

ROOT = Path(__file__).parents[2]


def test_a_new_run_has_a_models_folder_and_its_config(tmp_path):
    run = new_run(tmp_path / 'no such' / 'out', 'a name', {'seed': 1})
    assert run == tmp_path / 'no such/out/a name'
    assert (run / 'models').is_dir()
    assert json.loads((run / 'config.json').read_text()) == {'seed': 1}
    assert list(run.parent.iterdir()) == [run]


def test_the_default_name_is_a_time_stamp_unique_within_a_second(tmp_path):
    runs = {new_run(tmp_path, None, {}).name for _ in range(5)}
    assert len(runs) == 5
    assert all(name.replace('-', '').isdigit() for name in runs)


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert new_run('~/out', 'n', {}) == tmp_path / 'out/n'


def test_an_existing_name_is_refused_and_untouched(tmp_path):
    new_run(tmp_path, 'n', {})
    with pytest.raises(UserError, match=r'n exists: choose another --name'):
        new_run(tmp_path, 'n', {})


def test_an_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / 'file').write_text('x')
    with pytest.raises(UserError, match=r"can't create a run in .*file \(File exists\): choose another --out"):
        new_run(tmp_path / 'file', 'n', {})


@pytest.mark.parametrize('name', ['../x', '/tmp/x', 'a/b', '..', 'x' * 256])
def test_a_name_that_is_not_one_folder_name_is_refused(tmp_path, name):
    with pytest.raises(UserError, match='one folder name'):
        new_run(tmp_path / 'out', name, {})
    assert list(tmp_path.iterdir()) == []


def test_json_is_readable_and_keeps_unicode(tmp_path):
    write_json(tmp_path / 'a.json', {'name': 'Katze \N{CAT FACE}', 'valid': 0.1})
    text = (tmp_path / 'a.json').read_text(encoding='utf-8')
    assert '\N{CAT FACE}' in text
    assert json.loads(text) == {'name': 'Katze \N{CAT FACE}', 'valid': 0.1}


def test_json_keeps_a_name_that_is_not_utf_8(tmp_path):
    name = os.fsdecode(b'caf\xe9')
    write_json(tmp_path / 'a.json', {'classes': [name]})
    assert json.loads((tmp_path / 'a.json').read_text(encoding='utf-8')) == {'classes': [name]}


def test_fingerprint_covers_names_and_contents(tmp_path):
    a, b = tmp_path / 'x/a.png', tmp_path / 'b.png'
    a.parent.mkdir()
    a.write_bytes(b'12')
    b.write_bytes(b'3')
    whole = fingerprint(tmp_path, [a, b])
    assert whole == hashlib.sha256(b'x/a.png\x002\x0012b.png\x001\x003').hexdigest()
    b.write_bytes(b'4')
    assert fingerprint(tmp_path, [a, b]) != whole


def test_environment_has_versions_commit_and_device():
    import torch

    found = environment()
    assert torch.__version__.startswith(found['torch'])  # pip doesn't record the build, e.g. +cpu or +cu130
    assert {'python', 'fastai', 'albumentations', 'commit', 'device'} <= set(found)
    json.dumps(found)


def test_a_run_in_use_is_refused_until_its_process_ends(tmp_path):
    run = new_run(tmp_path, 'n', {})
    code = f"""
import time
from pathlib import Path
from runtime.run_folder import locked
with locked(Path({str(run)!r})):
    print('locked', flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert holder.stdout.readline() == b'locked\n'
        with pytest.raises(UserError, match='n is in use by another process'), locked(run):
            pass
    finally:
        holder.kill()
        holder.wait()
    with locked(run):
        pass


PLACES = (
    '.lock', 'config.json', 'report.html', 'models/last.pth', 'models/tmp1', 'plots', 'plots/augmented',
    'plots/augmented/cat.png', 'tensorboard', 'wandb', 'wandb/latest-run', '.1-0.part',
)  # fmt: skip


@pytest.fixture
def untrusted(tmp_path):
    """A run folder and a home folder beside it, whose files a run must not touch."""
    home = tmp_path / 'home'
    (home / 'tmp_work').mkdir(parents=True)
    (home / 'tmp_work/thesis.txt').write_text('thesis')
    (home / 'precious.txt').write_text('precious')
    (tmp_path / 'run/models').mkdir(parents=True)
    return tmp_path / 'run', home


@pytest.mark.skipif(sys.platform == 'win32', reason='links need privileges there')
@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('target', ['home', 'home/precious.txt', 'run', 'nothing'])
def test_a_link_below_a_run_is_refused_by_name(untrusted, place, target):
    run, home = untrusted
    (run / place).parent.mkdir(parents=True, exist_ok=True)
    (run / place).symlink_to(home.parent / target)
    with pytest.raises(UserError, match=re.escape(f'{run / place} is a link')):
        open_run(run)


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes')
@pytest.mark.parametrize('place', ['.lock', 'config.json', 'plots/augmented/cat.png'])
def test_a_pipe_below_a_run_is_refused_by_name(untrusted, place):
    run, _ = untrusted
    (run / place).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(run / place)
    with pytest.raises(UserError, match=re.escape(f'{run / place} is a pipe')):
        open_run(run)


@pytest.mark.skipif(sys.platform == 'win32', reason='links need privileges there')
def test_a_run_may_be_a_link_and_may_contain_wandbs_links(untrusted):
    run, _ = untrusted
    (run / 'wandb/run-1/logs').mkdir(parents=True)
    (run / 'wandb/run-1/logs/debug.log').touch()
    (run / 'wandb/latest-run').symlink_to('run-1')
    (run / 'wandb/debug.log').symlink_to('run-1/logs/debug.log')
    (run / 'wandb/debug-core.log').symlink_to('run-1/logs/no longer there')
    link = run.with_name('link')
    link.symlink_to(run)
    assert open_run(link) == link
    assert open_run(run) == run
    (run / 'wandb/run-1/files').symlink_to('logs')  # W&B doesn't create it
    with pytest.raises(UserError, match='files is a link'):
        open_run(run)


def test_open_run_expands_home_and_accepts_a_missing_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert open_run('~/x') == tmp_path / 'x'


@pytest.mark.skipif(sys.platform == 'win32', reason='a folder is not locked there')
def test_the_lock_follows_no_link_and_does_not_block_on_a_pipe(untrusted):
    run, home = untrusted
    (run / '.lock').symlink_to(home / 'precious.txt')
    with pytest.raises(OSError, match=r'\.lock'), locked(run):
        pass
    assert (home / 'precious.txt').read_text() == 'precious'
    (run / '.lock').unlink()
    os.link(home / 'precious.txt', run / '.lock')
    with locked(run):
        pass
    assert (home / 'precious.txt').read_text() == 'precious'
    (run / '.lock').unlink()
    os.mkfifo(run / '.lock')
    with pytest.raises(UserError, match=r'\.lock is a pipe'), locked(run):
        pass


def test_remove_leftovers_removes_only_sweep_weights_and_part_files(untrusted):
    run, _ = untrusted
    for name in 'tmpa', 'tmpb', 'tmpc':
        (run / 'models' / name).mkdir()
    (run / 'models/tmpa/_tmp.pth').touch()
    (run / 'models/tmpc/thesis.txt').touch()
    (run / 'models/tmp.pth').touch()
    (run / 'plots').mkdir()
    (run / 'plots/.1-a.part').touch()
    remove_leftovers(run)
    left = {file.relative_to(run).as_posix() for file in run.rglob('*')}
    assert left == {'models', 'models/tmpc', 'models/tmpc/thesis.txt', 'models/tmp.pth', 'plots'}
