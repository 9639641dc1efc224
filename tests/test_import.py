"""`from train_fastai import *` in a new process, in a folder with a user's own folders."""

import json
import subprocess
import sys

import pytest

CODE = """
import json, sys
from train_fastai import *
modules = [*sys.modules]
from fastai.data.core import DataLoaders, TfmdDL, show_results
from fastai.learner import Learner, Recorder

def methods():
    return sorted((c.__name__, name) for c in (Learner, Recorder, DataLoaders, TfmdDL) for name in dir(c))

ours = methods(), len(show_results.methods)
import fastai.vision.all
all = methods(), len(show_results.methods)
print(json.dumps({'get_dls': get_dls.__module__, 'modules': modules, 'ours': ours, 'all': all}))
"""


@pytest.fixture(scope='module')
def imported(tmp_path_factory) -> dict:
    """The module of `get_dls`, all imported modules, and fastai's methods before and after its own import of all."""
    folder = tmp_path_factory.mktemp('notebook')
    (folder / 'data').mkdir()  # a folder that users often have beside a notebook; `fit` creates models/
    (folder / 'models').mkdir()
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', CODE], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_notebook_in_any_folder_can_import_train_fastai(imported):
    assert imported['get_dls'] == 'data.loaders'


def test_no_tracker_is_imported_without_track(imported):
    # timm imports wandb itself where that is installed
    assert {'tensorboard', 'fastai.text'} & {*imported['modules']} == set()


def test_the_readmes_import_adds_all_of_fastais_learner_methods(imported):
    assert imported['ours'] == imported['all']
    assert ['Learner', 'summary'] in imported['ours'][0]


def test_import_star_gives_the_public_names():
    names = {}
    exec('from train_fastai import *', names)
    assert {'get_dls', 'get_learner', 'find_lr', 'fit', 'review', 'GradCAMInterpretation'} <= set(names)
