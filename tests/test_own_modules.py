import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from own_modules import refuse_hidden_modules

ROOT = Path(__file__).parents[1]
NAMES = sorted(
    path.stem
    for path in ROOT.iterdir()
    if (path.suffix == '.py' or (path / '__init__.py').is_file()) and path.stem != 'own_modules'
)


def python(code, cwd, *paths):
    """Run `code` in `cwd` with `paths` on PYTHONPATH; return the last line of stderr, or ''."""
    env = {'PYTHONPATH': ':'.join(map(str, paths)), 'PYTHONDONTWRITEBYTECODE': '1'}
    command = [sys.executable, '-S', '-c', code]  # without site-packages, whose modules would hide too
    errors = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True).stderr
    return errors.strip().splitlines()[-1] if errors else ''


CHECK = 'from own_modules import refuse_hidden_modules; refuse_hidden_modules()'


@pytest.fixture
def home(tmp_path):
    """A project of two modules and a package, with files beside them that are not its modules."""
    home = tmp_path / 'home'
    for name in ('models.py', 'train.py', 'data/__init__.py', 'test.py', 'no-module.py', 'notebooks/models.py'):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    shutil.copy(ROOT / 'own_modules.py', home)
    (tmp_path / 'theirs').mkdir()
    return home


@pytest.mark.parametrize('command', ['train_fastai', 'predict', 'export'])
def test_each_hidden_module_is_named_with_the_file_that_hides_it(command, tmp_path):
    others = [name for name in NAMES if name != command]
    for name in others:
        (tmp_path / f'{name}.py').touch()
    error = python(f'import {command}', tmp_path, ROOT)
    assert error.startswith('ImportError: ')
    assert error.endswith(f'rename it, or begin with sys.path.insert(0, {str(ROOT)!r}); then restart Python')
    for name in others:
        file = ROOT / name / '__init__.py' if (ROOT / name).is_dir() else ROOT / f'{name}.py'
        assert f'{tmp_path / f"{name}.py"} hides {file}' in error
    assert error.count(' hides ') == len(others)


def test_packages_and_installed_modules_hide_too(home):
    theirs = home.parent / 'theirs'
    (theirs / 'data').mkdir()
    (theirs / 'data/__init__.py').touch()
    expected = f'ImportError: {theirs}/data/__init__.py hides {home}/data/__init__.py: rename it, or begin '
    assert python(CHECK, theirs, home).startswith(expected)
    assert python(CHECK, '/', theirs, home).startswith(expected)
    assert python(CHECK, '/', home, theirs) == ''


def test_an_already_imported_module_hides(home):
    theirs = home.parent / 'theirs'
    (theirs / 'data').mkdir()  # a namespace package, imported only if there is no regular one
    later = f'import data, sys; sys.path.insert(0, {str(home)!r}); '
    assert f'{theirs}/data hides {home}/data/__init__.py: ' in python(later + CHECK, theirs)
    assert python(CHECK, theirs, home) == ''


def test_no_error_if_nothing_is_hidden(home, monkeypatch):
    theirs = home.parent / 'theirs'
    (theirs / 'utils.py').touch()
    (home.parent / 'link').symlink_to(home)
    assert python(CHECK, theirs, home) == ''  # the standard library has a `test`, too
    assert python(CHECK, theirs, home.parent / 'link') == ''
    assert python(CHECK, home) == ''
    refuse_hidden_modules()  # the tests' folder contains a `data`
