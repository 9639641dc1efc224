"""The notebook: its committed outputs, and a fresh run."""

import base64
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
FILE = ROOT / 'notebooks/review_mistakes.ipynb'
# the notebook's parameters, with values for a run of seconds
PARAMETERS = "data, fraction, bs, epochs, run, seconds = 'digits', 0.1, 8, 1, 'here', 1"
PICTURES = 'dls', 'sweep', 'history', 'losses', 'gradcam', 'suspects-shown'


@pytest.fixture
def notebook():
    return nbformat.read(FILE, 4)


def code(notebook):
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == 'code'}


def shown(cell, kind):
    return [output.data[kind] for output in cell.outputs if kind in output.get('data', {})]


def printed(cell):
    return ''.join(output.text for output in cell.outputs if output.output_type == 'stream')


def test_the_committed_notebook_has_ordered_outputs_and_no_noise(notebook):
    nbformat.validate(notebook)
    cells = code(notebook)
    assert [cell.execution_count for cell in cells.values()] == [*range(1, len(cells) + 1)]
    assert {*notebook.metadata} == {'kernelspec'}
    assert all({*cell.metadata} <= {'tags'} for cell in notebook.cells)
    assert FILE.stat().st_size < 1_000_000
    outputs = str([cell.outputs for cell in cells.values()])
    here = '|'.join(map(re.escape, (str(ROOT), str(Path.home()))))
    assert not re.search(rf'{here}|/home/|/root|/tmp|/Users|Traceback|[Ww]arning', outputs)
    assert outputs.count('<progress') == 0  # no unfinished progress bars


@pytest.mark.slow
def test_the_notebook_runs(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    code(notebook)['parameters'].source = PARAMETERS
    NotebookClient(notebook, timeout=300, resources={'metadata': {'path': tmp_path}}).execute()
    cells = code(notebook)
    assert all('error' not in {output.output_type for output in cell.outputs} for cell in cells.values())
    for name in PICTURES:
        (picture,) = shown(cells[name], 'image/png')
        assert base64.b64decode(picture).startswith(b'\x89PNG'), name
    (table,) = [html for html in shown(cells['fit'], 'text/html') if '<table' in html]
    assert 'valid_accuracy' in table  # fastprogress's table for notebooks, not the lines of EpochLines
    assert re.search(
        r'^about \d+ (s|min) for 1 epoch of 16 batches and the review on this', printed(cells['fit']), flags=re.M
    )
    assert '\r' not in printed(cells['fit'])
    assert shown(cells['interp'], 'text/plain')[-1].startswith('GradCAMInterpretation of 360 images, ')
    assert "'layer4': (4, 2, 2)" in shown(cells['grad-cam'], 'text/plain')[0]
    assert {f.name for f in tmp_path.iterdir()} == {'here'}
    assert (tmp_path / 'here/models/best.pth').exists()
