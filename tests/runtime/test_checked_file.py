import json
import os

import pytest

from runtime.checked_file import MAX_BYTES, number, read_file, read_json, read_table
from runtime.errors import UserError


@pytest.mark.parametrize('text', [
    '', '{', '[1,]', '{"a": NaN}', '{"a": Infinity}', '{"a": -Infinity}', '{"a": 1e999}', '{"a": -1e999}',
    '[' * 100_000, '1' * 10_000, '{"b": 1}', '[]', '"a"', '1', 'null',
])  # fmt: skip
def test_invalid_json_is_a_one_line_error(tmp_path, text):
    (tmp_path / 'a.json').write_text(text)
    with pytest.raises(UserError, match=r'a\.json is not a valid list of cats \(.*\): restore a copy of it$') as e:
        read_json(tmp_path / 'a.json', 'list of cats', lambda content: content['a'])
    assert '\n' not in str(e.value)
    assert len(str(e.value)) < 500


def test_nan_and_infinity_are_read_only_if_allowed(tmp_path):
    (tmp_path / 'a.json').write_text('[Infinity, -Infinity, 1.5, 2]')
    assert read_json(tmp_path / 'a.json', 'list', list, nan=True) == [float('inf'), float('-inf'), 1.5, 2]
    (tmp_path / 'a.json').write_text('[1e999]')
    with pytest.raises(UserError, match='1e999 is not a finite number'):
        read_json(tmp_path / 'a.json', 'list', list, nan=True)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / 'a.json').open('wb') as f:
        f.truncate(2**40)  # sparse on the disk, 1 TiB in memory
    with pytest.raises(UserError, match=f'1,099,511,627,776 bytes, over the limit of {MAX_BYTES:,}'):
        read_json(tmp_path / 'a.json', 'list', list)


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes')
def test_a_pipe_is_refused_without_blocking(tmp_path):
    os.mkfifo(tmp_path / 'a.json')
    with pytest.raises(UserError, match='not a file'):
        read_json(tmp_path / 'a.json', 'list', list)


def test_text_that_is_not_utf_8_and_a_missing_file(tmp_path):
    (tmp_path / 'a').write_bytes(b'\xff')
    with pytest.raises(UserError, match=r'a is not a valid text \(UnicodeDecodeError: .*\): save it'):
        read_file(tmp_path / 'a', 'text', str, way_out='save it')
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / 'b', 'text', str)


def test_an_invalid_table_or_one_with_millions_of_columns_is_refused(tmp_path):
    (tmp_path / 'a.csv').write_text('a,b\n1,2\n')
    assert read_table(tmp_path / 'a.csv', 'table', lambda table: table.to_dict('records')) == [{'a': 1, 'b': 2}]
    for text in ',' * 5_000_000, '', '"', 'a\n1,2\n3,4,5\n':
        (tmp_path / 'a.csv').write_text(text)
        with pytest.raises(UserError, match=r'a\.csv is not a valid table'):
            read_table(tmp_path / 'a.csv', 'table', lambda table: table['a'].astype(float) + table['b'])


@pytest.mark.parametrize('value', [True, '1', None, [1], float('nan'), float('inf'), -1, 2.5, 10**400])
def test_a_value_that_is_not_a_number_in_the_range_is_refused(value):
    with pytest.raises(ValueError, match='is not a number from 0 to 2'):
        number(value, 0, 2)
    assert (number(0, 0, 2), number(1.5, 0, 2)) == (0.0, 1.5)


def test_escape_codes_in_a_file_do_not_reach_the_message(tmp_path):
    (tmp_path / 'a.json').write_text(json.dumps({'\x1b[31m': 1}))
    with pytest.raises(UserError, match=r'\\x1b\[31m') as e:
        read_json(tmp_path / 'a.json', 'thing', lambda content: {}[next(iter(content))])
    assert str(e.value).isprintable()
