import re
from dataclasses import replace

from tiny import TINY

from callbacks.history import EpochLines, History


def test_prints_one_plain_line_an_epoch(learner, tmp_path, capsys):
    learner().fit(2, 0.01, cbs=[History(tmp_path / 'history.csv'), EpochLines()])
    lines = capsys.readouterr().out.splitlines()
    number = r'[\d.e+-]+'
    names = 'train_loss', 'train_accuracy', 'valid_loss', 'valid_accuracy', 'lr'
    pattern = '  '.join(f'{name} {number}' for name in names) + r'  \d+ s'
    assert len(lines) == 2
    for i, line in enumerate(lines):
        assert re.fullmatch(rf'epoch {i + 1}/2  {pattern}', line)


def test_leaves_out_columns_without_values(learner, tmp_path, capsys):
    learn = learner(replace(TINY, schedule='triangle'), valid=0)
    learn.fit(1, 0.01, cbs=[History(tmp_path / 'history.csv'), EpochLines()])
    line = capsys.readouterr().out
    assert 'train_accuracy' in line
    assert 'valid' not in line
