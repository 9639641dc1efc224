import csv
import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from runtime.csv_file import write_csv

FORMULAS = ['=HYPERLINK("a.b";"x")', '+1', '-1', '@SUM(1)', '\t=1', '\r=1']


def read(file):
    with file.open(newline='', encoding='utf-8', errors='surrogateescape') as f:
        return list(csv.reader(f))


@pytest.mark.parametrize('name', FORMULAS)
def test_text_is_never_a_formula(tmp_path, name):
    table = pd.DataFrame({'file': [Path(f'{name}.png'), Path('a.png')], 'class': [name, 'cat']})
    write_csv(table, tmp_path / 'a.csv')
    assert read(tmp_path / 'a.csv') == [['file', 'class'], [f"'{name}.png", f"'{name}"], ['a.png', 'cat']]


def test_text_is_quoted_so_that_no_separator_starts_a_formula(tmp_path):
    write_csv(pd.DataFrame({'class': ['a;=1', 'b"\t=1', 'c\n=1']}), tmp_path / 'a.csv')
    assert (tmp_path / 'a.csv').read_text() == '"class"\n"a;=1"\n"b""\t=1"\n"c\n=1"\n'


def test_numbers_stay_numbers(tmp_path):
    numbers = {'float': np.float32([-0.1, math.nan]), 'int': [-3, 4], 'bool': [True, False], 'mixed': ['-5', -5]}
    write_csv(pd.DataFrame(numbers, index=[7, 9]), tmp_path / 'a.csv')
    assert read(tmp_path / 'a.csv')[1:] == [['-0.1', '-3', 'True', "'-5"], ['', '4', 'False', '-5']]
    assert '-0.1,-3,' in (tmp_path / 'a.csv').read_text()


def test_a_name_that_is_not_utf_8_keeps_its_bytes(tmp_path):
    write_csv(pd.DataFrame({'file': [Path(os.fsdecode(b'caf\xe9'))]}), tmp_path / 'a.csv')
    assert (tmp_path / 'a.csv').read_bytes() == b'"file"\n"caf\xe9"\n'


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path):
    (tmp_path / 'a.csv').write_text('old')

    class Unwritable:
        def __str__(self):
            raise ValueError('no')

    with pytest.raises(ValueError, match='no'):
        write_csv(pd.DataFrame({'a': [Unwritable()]}), tmp_path / 'a.csv')
    assert [file.name for file in tmp_path.iterdir()] == ['a.csv']
    assert (tmp_path / 'a.csv').read_text() == 'old'


def test_an_empty_table_has_a_header(tmp_path):
    write_csv(pd.DataFrame([], columns=['file', 'reason']), tmp_path / 'a.csv')
    assert (tmp_path / 'a.csv').read_text() == '"file","reason"\n'
