"""When a run is finished, and which of its files are kept."""

import pytest
import torch
from tiny import tiny_model

from data.samples import plot_augmented
from runtime.errors import UserError
from train_fastai import fit
from training.finished import is_finished, marked_unfinished


@pytest.fixture
def options(folder, tmp_path, monkeypatch):
    monkeypatch.setattr('training.learner.get_model', tiny_model)
    training = {'epochs': 2, 'bs': 6, 'valid': 0.25, 'lr': 0.01, 'checkpoint_minutes': 0}
    return {'data': folder, 'recipe': 'plateau', 'out': tmp_path, 'name': 'r', **training}


def models(run):
    return sorted(file.name for file in (run / 'models').iterdir())


def test_a_run_is_finished_with_a_page_and_without_a_mark(tmp_path):
    assert not is_finished(tmp_path)
    (tmp_path / 'report.html').touch()  # a run of a version without the mark
    assert is_finished(tmp_path)
    with pytest.raises(KeyboardInterrupt), marked_unfinished(tmp_path, False):
        raise KeyboardInterrupt
    assert not is_finished(tmp_path)
    with marked_unfinished(tmp_path, False):
        assert not is_finished(tmp_path)
    assert is_finished(tmp_path)


def test_the_mark_is_never_written_outside_of_the_run(tmp_path):
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'unfinished').symlink_to(tmp_path / 'elsewhere')
    with marked_unfinished(run, False):
        assert not (tmp_path / 'elsewhere').exists()


def test_a_finished_run_has_checkpoints_only_with_keep_checkpoints(options, tmp_path, command):
    assert command(**options)[0] == 0
    assert models(tmp_path / 'r') == ['best.pth']
    assert command(**{**options, 'name': 's'}, keep_checkpoints=True)[0] == 0
    assert models(tmp_path / 's') == ['best.pth', 'last.previous.pth', 'last.pth']
    weights = [torch.load(tmp_path / f'{name}/models/best.pth', weights_only=True) for name in 'rs']
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_resumed_run_may_keep_its_checkpoints(options, tmp_path, command, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr('train_fastai.review_run', None)  # raises TypeError after the training
        with pytest.raises(TypeError):
            command(**options)
    assert command(resume=tmp_path / 'r', keep_checkpoints=True)[0] == 0
    assert models(tmp_path / 'r') == ['best.pth', 'last.previous.pth', 'last.pth']
    code, out, _ = command(resume=tmp_path / 'r')
    assert (code, out) == (0, f'{tmp_path}/r is finished, see {tmp_path}/r/report.html\n')
    assert models(tmp_path / 'r') == ['best.pth', 'last.previous.pth', 'last.pth']


def test_a_finished_run_without_a_checkpoint_is_not_overwritten(learner):
    learn = learner()
    fit(learn, 1, 0.05)
    (learn.path / 'models/last.pth').unlink()
    (learn.path / 'report.html').touch()
    before = {file: file.read_bytes() for file in learn.path.rglob('*') if file.is_file()}
    with pytest.raises(UserError, match='is finished, without a checkpoint to go on from: train in another folder'):
        fit(learn, 2, 0.05, resume=True)
    assert {file: file.read_bytes() for file in learn.path.rglob('*') if file.is_file()} == before


def test_existing_pictures_are_not_drawn_again(options, tmp_path, command, monkeypatch):
    drawn = []

    def counted(dls, cls):
        drawn.append(cls)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return plot_augmented(dls, cls)

    monkeypatch.setattr('data.samples.plot_augmented', counted)
    assert command(**options)[0] == 130
    assert command(resume=tmp_path / 'r')[0] == 0
    assert drawn == ['blue', 'green', 'green', 'red']
    whole = {**options, 'name': 'whole'}
    assert command(**whole)[0] == 0
    assert drawn[4:] == ['blue', 'green', 'red']
    weights = [torch.load(tmp_path / f'{name}/models/best.pth', weights_only=True) for name in ('r', 'whole')]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
