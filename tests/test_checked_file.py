import json
import os

import pytest

from checked_file import MAX_BYTES, number, read_file, read_json, read_table
from errors import UserError


@pytest.mark.parametrize('text', [
    '', '{', '[1,]', '{"a": NaN}', '{"a": Infinity}', '{"a": -Infinity}', '{"a": 1e999}', '{"a": -1e999}',
    '[' * 100_000, '1' * 10_000, '{"b": 1}', '[]', '"a"', '1', 'null',
])  # fmt: skip
def test_what_is_no_such_json_is_one_line(tmp_path, text):
    (tmp_path / 'a.json').write_text(text)
    with pytest.raises(UserError, match=r'a\.json is no list of cats \(.*\): restore a copy of it$') as e:
        read_json(tmp_path / 'a.json', 'list of cats', lambda content: content['a'])
    assert '\n' not in str(e.value)
    assert len(str(e.value)) < 500


def test_constants_are_read_where_they_are_allowed(tmp_path):
    (tmp_path / 'a.json').write_text('[Infinity, -Infinity, 1.5, 2]')
    assert read_json(tmp_path / 'a.json', 'list', list, nan=True) == [float('inf'), float('-inf'), 1.5, 2]
    (tmp_path / 'a.json').write_text('[1e999]')
    with pytest.raises(UserError, match='1e999 is no finite number'):
        read_json(tmp_path / 'a.json', 'list', list, nan=True)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / 'a.json').open('wb') as f:
        f.truncate(2**40)  # takes no room on the disk, and would take 1 TiB of memory
    with pytest.raises(UserError, match=f'1,099,511,627,776 bytes, and more than {MAX_BYTES:,} are not read'):
        read_json(tmp_path / 'a.json', 'list', list)


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes')
def test_nobody_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / 'a.json')
    with pytest.raises(UserError, match='not a file'):
        read_json(tmp_path / 'a.json', 'list', list)


def test_text_that_is_not_utf_8_and_what_is_not_there(tmp_path):
    (tmp_path / 'a').write_bytes(b'\xff')
    with pytest.raises(UserError, match=r'a is no text \(UnicodeDecodeError: .*\): save it'):
        read_file(tmp_path / 'a', 'text', str, way_out='save it')
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / 'b', 'text', str)


def test_a_table_with_millions_of_columns_is_refused(tmp_path):
    (tmp_path / 'a.csv').write_text('a,b\n1,2\n')
    assert read_table(tmp_path / 'a.csv', 'table', lambda table: table.to_dict('records')) == [{'a': 1, 'b': 2}]
    for text in ',' * 5_000_000, '', '"', 'a\n1,2\n3,4,5\n':
        (tmp_path / 'a.csv').write_text(text)
        with pytest.raises(UserError, match=r'a\.csv is no table'):
            read_table(tmp_path / 'a.csv', 'table', lambda table: table['a'].astype(float) + table['b'])


@pytest.mark.parametrize('value', [True, '1', None, [1], float('nan'), float('inf'), -1, 2.5, 10**400])
def test_what_is_no_number_of_that_range(value):
    with pytest.raises(ValueError, match='is no number from 0 to 2'):
        number(value, 0, 2)
    assert (number(0, 0, 2), number(1.5, 0, 2)) == (0.0, 1.5)


def test_escape_codes_in_a_file_do_not_reach_the_message(tmp_path):
    (tmp_path / 'a.json').write_text(json.dumps({'\x1b[31m': 1}))
    with pytest.raises(UserError, match=r'\\x1b\[31m') as e:
        read_json(tmp_path / 'a.json', 'thing', lambda content: {}[next(iter(content))])
    assert str(e.value).isprintable()
