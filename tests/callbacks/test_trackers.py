import json
import sys
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from time import sleep
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
import wandb
from fastai.callback.core import Callback
from fastai.torch_core import set_seed
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import TINY, LateReadings, tiny_model
from wandb_log import history, records

from callbacks.trackers import wandb as wandb_logger
from callbacks.trackers.tensorboard import RunLogger
from callbacks.trackers.tracking import tracked
from runtime.errors import UserError
from train_fastai import fit, main

RECIPE = replace(TINY, dropout=0.5)  # dropout draws from torch's random state
BATCHES, EPOCHS = 4, 3
LR = 0.05


class Killed(BaseException):
    """Simulates a kill: nothing catches it."""


class KillAt(Callback):
    """Raise Killed after the given epoch's batch."""

    order = 100

    def __init__(self, epoch, batch):
        self.place = epoch, batch

    def after_batch(self):
        if self.training and (self.epoch, self.iter) == self.place:
            raise Killed


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    monkeypatch.setenv('WANDB_DATA_DIR', str(tmp_path))


@pytest.fixture
def saves_each_epoch(monkeypatch):
    monkeypatch.setattr('callbacks.checkpoint.SECONDS', 0)


@pytest.fixture
def make(learner):
    """Make a Learner with the config.json that `main` writes in its run folder."""

    def make(seed=0, recipe=RECIPE, **kwargs):
        set_seed(seed)
        learn = learner(recipe, **kwargs)
        (learn.path / 'config.json').write_text(json.dumps({'options': {'lr': LR, 'name': 'über'}}))
        return learn

    return make


def run(learn, tool, **kwargs):
    """Train and leave plots and summary.json as a run does, unless the training is killed before."""
    with tracked(tool, learn.path) as cbs:
        table = fit(learn, EPOCHS, LR, cbs=cbs, **kwargs)
        (learn.path / 'plots/augmented').mkdir(parents=True)
        plt.imsave(learn.path / 'plots/accuracy.png', [[0.0, 1.0]])
        plt.imsave(learn.path / 'plots/augmented/red.png', [[0.0, 1.0]])
        (learn.path / 'summary.json').write_text(json.dumps({'test_accuracy': 0.75}))
    return table


def killed_and_resumed(make, tool, epoch, batch, minutes):
    """One run in two Learners: the first is killed after the epoch's batch, the second resumes."""
    learn = make()
    learn.add_cb(KillAt(epoch, batch))
    with pytest.raises(Killed):
        run(learn, tool, checkpoint_minutes=minutes)
    again = make(seed=1)
    again.path = learn.path
    sleep(1)  # TensorBoard sorts its files by the second in which they begin
    run(again, tool, resume=True)
    return again


def events(learn):
    log = EventAccumulator(str(learn.path / 'tensorboard'), size_guidance={'images': 0, 'tensors': 0})
    return log.Reload()


def scalars(log):
    return {tag: [(e.step, e.value) for e in log.Scalars(tag)] for tag in log.Tags()['scalars']}


def weights(learn):
    return torch.load(learn.path / 'models/best.pth', weights_only=True)


@pytest.mark.parametrize('tool', ['tensorboard', 'wandb'])
def test_a_missing_tracker_is_reported_before_any_work(tool, tmp_path, monkeypatch, capsys):
    def no_version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr('callbacks.trackers.tracking.version', no_version)
    monkeypatch.setattr('train_fastai.get_dls', None)
    with pytest.raises(SystemExit) as e:
        main(track=tool, out=str(tmp_path / 'runs'))
    assert e.value.code == 2
    assert capsys.readouterr().err == f"train_fastai.py: --track {tool}: it isn't installed: pip install {tool}\n"
    assert not (tmp_path / 'runs').exists()


@pytest.mark.parametrize('rank', [0, 1])
def test_of_two_ranks_only_rank_0_opens_the_tracker(make, rank, monkeypatch):
    learn = make()
    (learn.path / 'summary.json').write_text('{}')
    before = {*learn.path.rglob('*')}
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('RANK', str(rank))
    with tracked('tensorboard', learn.path) as cbs:
        assert [type(cb).__name__ for cb in cbs] == ['RunLogger'] * (rank == 0)
    assert ({*learn.path.rglob('*')} == before) == (rank == 1)


@pytest.mark.parametrize('tool', ['tensorboard', 'wandb'])
def test_tracking_does_not_change_the_results(make, tool):
    plain = make()
    table = run(plain, 'none').drop(columns='seconds')
    logged = make()
    assert run(logged, tool).drop(columns='seconds').equals(table)
    theirs, ours = weights(plain), weights(logged)
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_tensorboard_has_curves_options_pictures_and_summary(make):
    learn = make()
    table = run(learn, 'tensorboard')
    log = events(learn)
    curves = scalars(log)
    steps = range(1, BATCHES * EPOCHS + 1)
    assert [step for step, _ in curves['train_loss']] == [*steps]
    assert curves['lr_0'] == [(step, pytest.approx(LR)) for step in steps]
    assert curves['mom_0'] == [(step, pytest.approx(RECIPE.mom)) for step in steps]
    for name in ('train_accuracy', 'valid_loss', 'valid_accuracy'):
        ends = [(BATCHES * (row.epoch + 1), pytest.approx(getattr(row, name))) for row in table.itertuples()]
        assert curves[name] == ends
    assert curves['train_loss'][-1][1] == pytest.approx(table.train_loss.iloc[-1])
    assert sorted(log.Tags()['images']) == ['accuracy', 'augmented/red']
    texts = {tag: log.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in log.Tags()['tensors']}
    assert json.loads(texts['config/text_summary'].strip('`'))['options']['name'] == 'über'
    assert json.loads(texts['summary/text_summary'].strip('`')) == {'test_accuracy': 0.75}


@pytest.mark.parametrize(('epoch', 'batch', 'minutes'), [(0, 1, 60), (1, 2, 60), (1, 2, 0)])
@pytest.mark.usefixtures('saves_each_epoch')
def test_a_resumed_run_has_each_tensorboard_step_once(make, epoch, batch, minutes):
    whole = make()
    run(whole, 'tensorboard')
    again = killed_and_resumed(make, 'tensorboard', epoch, batch, minutes)
    assert len([*(again.path / 'tensorboard').iterdir()]) == 2
    assert scalars(events(again)).keys() == scalars(events(whole)).keys()
    steps = [step for step, _ in scalars(events(again))['train_loss']]
    assert steps == [*range(1, BATCHES * EPOCHS + 1)]


@pytest.mark.parametrize('tool', ['tensorboard', 'wandb'])
def test_a_run_without_validation_images_has_the_training_curves(make, tool):
    learn = make(recipe=replace(RECIPE, schedule='triangle'), valid=0.0)
    table = run(learn, tool)
    if tool == 'tensorboard':
        curves = scalars(events(learn))
        assert 'valid_loss' not in curves
        assert [value for _, value in curves['train_accuracy']] == pytest.approx(list(table.train_accuracy))
    else:
        (file,) = wandb_logs(learn)
        rows = [row for row in history(file) if 'train_accuracy' in row]
        assert [row['train_accuracy'] for row in rows] == pytest.approx(list(table.train_accuracy))
        assert [row['valid_loss'] for row in rows] == [None] * EPOCHS


def test_tensorboard_has_every_step_of_a_killed_process(make):
    learn = make()
    learn.add_cb(KillAt(1, 2))
    logger = RunLogger(learn.path, {})
    with pytest.raises(Killed):
        fit(learn, EPOCHS, LR, cbs=[logger])
    curves = scalars(events(learn))  # the log was never closed
    assert [step for step, _ in curves['train_loss']] == [*range(1, BATCHES + 4)]
    assert [step for step, _ in curves['valid_accuracy']] == [BATCHES]
    logger.close()


@pytest.mark.parametrize('tool', ['tensorboard', 'wandb'])
def test_on_a_gpu_each_steps_own_loss_is_logged_when_it_is_known(make, monkeypatch, tool):
    logs = []
    for late in False, True:
        if late:
            for module in 'recorder', 'trackers.tensorboard', 'trackers.wandb':
                monkeypatch.setattr(f'callbacks.{module}.Readings', LateReadings)
        run(learn := make(), tool)
        if tool == 'tensorboard':
            logs.append({tag: sorted(values) for tag, values in scalars(events(learn)).items()})
        else:
            (file,) = wandb_logs(learn)
            logs.append([{k: v for k, v in row.items() if k[0] != '_' or k == '_step'} for row in history(file)])
    if tool == 'wandb':
        for rows in logs:
            rows[-1] = rows[-1].keys()  # its pictures' names are random
    assert logs[0] == logs[1]


def wandb_logs(learn):
    files = sorted((learn.path / 'wandb').glob('offline-run-*/*.wandb'), key=lambda file: file.parent.name)
    for _ in range(100):  # W&B's own process writes the last records a moment after `finish` has returned
        if all(any(record.HasField('exit') for record in records(file)) for file in files):
            return files
        sleep(0.1)
    raise AssertionError(f'{files} have no end')


def test_only_complete_records_of_an_unfinished_log_are_read(make, tmp_path):
    learn = make()
    run(learn, 'wandb')
    (file,) = wandb_logs(learn)
    content, part = file.read_bytes(), tmp_path / 'part.wandb'
    part.write_bytes(content)
    whole = list(records(part))
    for size in range(0, len(content), 37):
        part.write_bytes(content[:size])
        read = list(records(part))
        assert read == whole[: len(read)]
    assert len(read) > BATCHES * EPOCHS


def test_wandb_has_curves_options_pictures_summary_and_weights(make):
    learn = make()
    table = run(learn, 'wandb')
    (file,) = wandb_logs(learn)
    rows = history(file)
    training = [row for row in rows if 'train_loss' in row]
    assert [row['_step'] for row in training] == [*range(BATCHES * EPOCHS)]
    assert [row['lr_0'] for row in training] == [pytest.approx(LR)] * len(training)
    ends = training[BATCHES - 1 :: BATCHES]
    assert [row['epoch'] for row in ends] == [1, 2, 3]
    for name in ('train_accuracy', 'valid_loss', 'valid_accuracy'):
        assert [row[name] for row in ends] == pytest.approx(list(table[name]))
    assert rows[-1]['accuracy._type'] == rows[-1]['augmented/red._type'] == 'image-file'
    (begun,) = (record.run for record in records(file) if record.HasField('run'))
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert config['options']['name'] == 'über'
    summary = {item.key: item.value_json for r in records(file) if r.HasField('summary') for item in r.summary.update}
    assert summary['test_accuracy'] == '0.75'
    (artifact,) = (record.artifact for record in records(file) if record.HasField('artifact'))
    assert artifact.type == 'model'
    assert artifact.manifest.contents[0].size == (learn.path / 'models/best.pth').stat().st_size


@pytest.mark.parametrize(('epoch', 'batch', 'minutes', 'first'), [(0, 1, 60, 0), (1, 2, 60, 4), (1, 2, 0, 7)])
@pytest.mark.usefixtures('saves_each_epoch')
def test_wandb_continues_the_same_run(make, epoch, batch, minutes, first):
    again = killed_and_resumed(make, 'wandb', epoch, batch, minutes)
    before, after = wandb_logs(again)
    ids = {record.run.run_id for file in (before, after) for record in records(file) if record.HasField('run')}
    assert ids == {json.loads((again.path / 'wandb.json').read_text())['id']}
    steps = [[row['_step'] for row in history(file) if 'train_loss' in row] for file in (before, after)]
    killed = BATCHES * epoch + batch
    assert steps == [[*range(killed + 1)], [*range(first, BATCHES * EPOCHS)]]
    epochs = [row['epoch'] for row in history(after) if 'valid_loss' in row]
    assert epochs == [*range(1 + first // BATCHES, EPOCHS + 1)]
    (exit_code,) = (record.exit.exit_code for record in records(before) if record.HasField('exit'))
    assert exit_code == 1


def test_steps_already_on_wandbs_server_are_not_logged_again(make, monkeypatch):
    learn, warned = make(), []
    monkeypatch.setattr('wandb.termwarn', lambda message, **kwargs: warned.append(message))
    with tracked('wandb', learn.path) as cbs:
        cbs[0].wandb_run.log({'ahead': 1}, step=6)  # simulates a resumed online run, whose server has 6 steps
        fit(learn, EPOCHS, LR, cbs=cbs)
        (learn.path / 'summary.json').write_text('{}')
    (file,) = wandb_logs(learn)
    assert [row['_step'] for row in history(file) if 'train_loss' in row] == [*range(6, BATCHES * EPOCHS)]
    assert [row['epoch'] for row in history(file) if 'valid_loss' in row] == [2, 3]
    assert warned == []


def test_a_refusal_by_wandb_ends_in_one_line(make, monkeypatch, tmp_path):
    monkeypatch.setenv('WANDB_MODE', 'online')
    monkeypatch.setenv('HOME', str(tmp_path))  # has no API key
    monkeypatch.delenv('WANDB_API_KEY', raising=False)
    wandb.teardown()  # W&B reads the environment once only
    learn = make()
    with pytest.raises(UserError, match=r'^--track wandb: .*wandb login.*WANDB_MODE=offline') as e:
        run(learn, 'wandb')
    assert '\n' not in str(e.value)
    wandb.teardown()
    assert not (learn.path / 'history.csv').exists()


def test_the_command_line_logs_a_whole_run(folder, tmp_path, monkeypatch, capsys, handlers):
    monkeypatch.setattr('training.learner.get_model', tiny_model)
    options = {'recipe': 'plateau', 'epochs': 1, 'bs': 6, 'valid': 0.25, 'track': 'tensorboard'}
    main(data=str(folder), out=str(tmp_path / 'runs'), name='a', **options)
    out, err = capsys.readouterr()
    assert err == ''
    assert f'to watch: tensorboard --logdir {tmp_path}/runs\n' in out
    run = tmp_path / 'runs/a'
    log = EventAccumulator(str(run / 'tensorboard'), size_guidance={'images': 0, 'tensors': 0}).Reload()
    assert len(scalars(log)['train_loss']) == 3  # without the sweep's steps
    pictures = {f.relative_to(run / 'plots').with_suffix('').as_posix() for f in run.glob('plots/**/*.png')}
    assert {*log.Tags()['images']} == pictures
    assert {'lr_find', 'accuracy_loss', 'gradcam_mistakes', 'augmented/green'} <= pictures
    summary = log.Tensors('summary/text_summary')[0].tensor_proto.string_val[0].decode()
    assert json.loads(summary.strip('`')) == json.loads((run / 'summary.json').read_text())


def test_only_real_images_of_a_foreign_run_are_logged(tmp_path, monkeypatch, capsys):
    logged = {}

    class Logger:
        def __init__(self, run, config):
            pass

        def log_results(self, summary, pictures, weights):
            logged.update(pictures)

        def close(self, failed=False):
            pass

    monkeypatch.setattr('callbacks.trackers.tracking.import_module', lambda name: SimpleNamespace(RunLogger=Logger))
    (tmp_path / 'config.json').write_text('{}')
    (tmp_path / 'summary.json').write_text('{}')
    (tmp_path / 'plots').mkdir()
    plt.imsave(tmp_path / 'plots/accuracy.png', [[0.0, 1.0]])
    (tmp_path / 'plots/lr_find.png').write_text('%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\nshowpage\n')
    with tracked('tensorboard', tmp_path):
        pass
    assert [(name, picture.size) for name, picture in logged.items()] == [('accuracy', (2, 1))]
    assert 'lr_find.png is left out: not a' in capsys.readouterr().out


@pytest.mark.parametrize('content', ['{"id": "../../x"}', '{"id": "0123456789"}', '{"id": 1}', '{}', '[]', '{'])
def test_a_foreign_wandb_id_cannot_name_another_folder(tmp_path, content):
    (tmp_path / 'wandb.json').write_text(content)
    with pytest.raises(UserError, match=r"wandb\.json is not a valid run's W&B id"):
        wandb_logger.RunLogger(tmp_path, {})
    assert [file.name for file in tmp_path.iterdir()] == ['wandb.json']


@pytest.mark.parametrize('tool', ['tensorboard', 'none'])
@pytest.mark.parametrize('at', ['before the log', 'after the log'])
def test_a_run_killed_after_its_page_resumes_only_the_rest(folder, tmp_path, command, monkeypatch, tool, at):
    monkeypatch.setattr('training.learner.get_model', tiny_model)
    options = {'data': folder, 'recipe': 'plateau', 'bs': 6, 'valid': 0.25, 'epochs': 1, 'lr': 0.01}
    options |= {'track': tool, 'out': tmp_path}
    run = tmp_path / 'a'

    @contextmanager
    def killed(*args):
        with tracked(*args) as cbs:
            yield cbs
            if at == 'before the log':
                raise Killed
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr('train_fastai.tracked', killed)
        with pytest.raises(Killed):
            command(**options, name='a')
    assert (run / 'report.html').is_file()
    assert (run / 'models/last.pth').is_file()
    kept = {file: file.stat().st_mtime_ns for file in run.rglob('*') if file.suffix in ('.html', '.csv', '.png')}
    del kept[run / 'history.csv']
    monkeypatch.setattr(sys.modules['interpret.review'], '_write_review', None)  # the review is done
    sleep(1)  # TensorBoard sorts its files by the second in which they begin
    code, out, err = command(resume=run)
    assert code == 0, err
    assert 'has all epochs (1): nothing is left to train' in out
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert [file.name for file in (run / 'models').iterdir()] == ['best.pth']
    assert 'is finished' in command(resume=run)[1]
    if tool == 'tensorboard':
        log = EventAccumulator(str(run / 'tensorboard'), size_guidance={'images': 0, 'tensors': 0}).Reload()
        assert {'augmented/green', 'accuracy_loss', 'gradcam_mistakes'} <= {*log.Tags()['images']}
        assert [len(log.Images(tag)) for tag in log.Tags()['images']] == [1] * len(log.Tags()['images'])
        assert [step for step, _ in scalars(log)['train_loss']] == [1, 2, 3]
