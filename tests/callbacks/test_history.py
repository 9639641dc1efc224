from dataclasses import replace

import pandas as pd
import pytest
from fastai.callback.core import Callback
from tiny import TINY

from callbacks.history import History, kept_epoch


def test_each_epochs_row_equals_the_recorders(learner, tmp_path):
    learn = learner()
    history = History(tmp_path / 'history.csv')
    learn.fit(2, 0.01, cbs=history)
    table = pd.read_csv(tmp_path / 'history.csv')
    pd.testing.assert_frame_equal(table, history.table)
    assert list(table) == ['epoch', 'train_loss', 'train_accuracy', 'valid_loss', 'valid_accuracy', 'lr', 'seconds']
    assert list(table.epoch) == [0, 1]
    for (_, row), values in zip(table.iterrows(), learn.recorder.values, strict=True):
        assert row[1:5].tolist() == pytest.approx(list(values))
    assert (table.seconds > 0).all()
    assert [f.name for f in tmp_path.glob('history*')] == ['history.csv']


def test_saving_after_an_epoch_counts_towards_the_next_ones_seconds(learner, tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr('callbacks.history.perf_counter', lambda: clock[0])

    class Work(Callback):
        order = History.order + 1

        def after_batch(self):
            clock[0] += 1

        def after_epoch(self):
            clock[0] += 100

    learn, history = learner(), History(tmp_path / 'history.csv')
    learn.fit(2, 0.01, cbs=[history, Work()])
    batches = sum(len(dl) for dl in learn.dls.loaders[:2])
    assert history.table.seconds.tolist() == [batches, 100 + batches]


def test_accuracy_equals_the_learners(learner, tmp_path):
    learn = learner()
    history = History(tmp_path / 'history.csv')
    learn.fit(1, 0.01, cbs=history)
    loss, acc = learn.validate()[-2:]
    assert history.table.valid_loss[0] == pytest.approx(loss)
    assert history.table.valid_accuracy[0] == pytest.approx(acc)


def test_without_validation_the_valid_columns_are_empty_and_the_last_epoch_is_kept(learner, tmp_path):
    learn = learner(replace(TINY, schedule='triangle'), valid=0)
    history = History(tmp_path / 'history.csv')
    learn.fit(2, 0.01, cbs=history)
    table = pd.read_csv(tmp_path / 'history.csv')
    assert table[['valid_loss', 'valid_accuracy']].isna().all(axis=None)
    assert table.train_accuracy.notna().all()
    assert kept_epoch(table).epoch == 1
    assert kept_epoch(table.assign(valid_loss=[0.5, 0.6])).epoch == 0
