import hashlib
import json

import pytest

from errors import UserError
from run_folder import fingerprint, new_run, surroundings, write_json


def test_makes_the_folder_and_its_models(tmp_path):
    run = new_run(tmp_path / 'no such' / 'out', 'a name')
    assert run == tmp_path / 'no such/out/a name'
    assert (run / 'models').is_dir()


def test_default_name_is_a_time_stamp(tmp_path):
    assert new_run(tmp_path).name.replace('-', '').isdigit()


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert new_run('~/out', 'n') == tmp_path / 'out/n'


def test_an_existing_name_is_refused_and_untouched(tmp_path):
    new_run(tmp_path, 'n')
    with pytest.raises(UserError, match=r'n exists: choose another --name'):
        new_run(tmp_path, 'n')


def test_an_out_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / 'file').write_text('x')
    with pytest.raises(UserError, match=r"can't be made \(Not a directory\): choose another --out"):
        new_run(tmp_path / 'file', 'n')


@pytest.mark.parametrize('name', ['../x', '/tmp/x', 'a/b', '..'])
def test_a_name_that_leaves_out_is_refused(tmp_path, name):
    with pytest.raises(UserError, match='one folder name'):
        new_run(tmp_path / 'out', name)
    assert list(tmp_path.iterdir()) == []


def test_json_is_readable_and_keeps_unicode(tmp_path):
    write_json(tmp_path / 'a.json', {'name': 'Katze \N{CAT FACE}', 'valid': 0.1})
    text = (tmp_path / 'a.json').read_text(encoding='utf-8')
    assert '\N{CAT FACE}' in text
    assert json.loads(text) == {'name': 'Katze \N{CAT FACE}', 'valid': 0.1}


def test_fingerprint_is_over_names_and_contents(tmp_path):
    a, b = tmp_path / 'x/a.png', tmp_path / 'b.png'
    a.parent.mkdir()
    a.write_bytes(b'12')
    b.write_bytes(b'3')
    whole = fingerprint(tmp_path, [a, b])
    assert whole == hashlib.sha256(b'x/a.png\x002\x0012b.png\x001\x003').hexdigest()
    b.write_bytes(b'4')
    assert fingerprint(tmp_path, [a, b]) != whole


def test_surroundings_name_versions_commit_and_device():
    import torch

    found = surroundings()
    assert torch.__version__.startswith(found['torch'])  # whose build, +cpu or +cu130, pip does not record
    assert {'python', 'fastai', 'albumentations', 'commit', 'device'} <= set(found)
    json.dumps(found)
