"""Files are checked by several processes as by one."""

import os
import re
import signal
import sys

import numpy as np
import pytest
from bad_images import write_corpus

from data import check_files
from data.decode import check_file, open_rgb
from data.limits import BadImage
from data.sizes import Plan
from runtime.capture_stderr import c_stderr
from runtime.errors import UserError
from runtime.files import sha256

needs_fork = pytest.mark.skipif(sys.platform != 'linux', reason='one process')


@pytest.fixture
def several(monkeypatch):
    monkeypatch.setattr(check_files, 'CHUNK', 5)
    monkeypatch.setattr(check_files.defaults, 'cpus', 2)


def checked(files):
    return list(check_files.check_files({file: sha256(file) for file in files}, Plan().side_for))


@needs_fork
def test_several_processes_find_what_one_finds(tmp_path, monkeypatch):
    files = [case.file for case in write_corpus(tmp_path, n=300, good=100)]
    with c_stderr():  # its temporary file exists before the processes start
        os.write(2, b'Corrupt JPEG data: not of these images')
    monkeypatch.setattr(check_files, 'CHUNK', len(files))
    alone = checked(files)
    monkeypatch.setattr(check_files, 'CHUNK', 10)
    monkeypatch.setattr(check_files.defaults, 'cpus', 4)
    assert checked(files) == alone
    for file, (result, pixels, side) in zip(files, alone, strict=True):
        if isinstance(result, str):
            with pytest.raises(BadImage, match=f'^{re.escape(result)}$'):
                check_file(file)
            assert (pixels, side) == (None, 0)
        else:
            image = np.asarray(open_rgb(file))
            assert check_file(file)[0] == image.shape[:2] == result
            assert pixels == (image.transpose(2, 0, 1).tobytes() if max(result) <= 64 else None)


@needs_fork
@pytest.mark.parametrize('memory', [1, 2**31, 5 * 2**31])
def test_processes_are_as_many_as_memory_allows(folder, several, monkeypatch, memory):
    asked, pool = [], check_files.ProcessPoolExecutor
    monkeypatch.setattr(check_files, 'total_memory', lambda: memory)
    monkeypatch.setattr(check_files, 'ProcessPoolExecutor', lambda n, *args: asked.append(n) or pool(n, *args))
    assert len(checked(sorted(folder.rglob('*.png')))) == 36
    assert asked == ([2] if memory > 2**32 else [])  # one process is this one


@needs_fork
def test_a_killed_process_is_reported(folder, several, monkeypatch):
    monkeypatch.setattr(check_files, 'check_file', lambda *args: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match=r'^a process that checked images was killed, perhaps because memory ran out$'):
        checked(sorted(folder.rglob('*.png')))


@pytest.mark.parametrize('chunk', [5, 100])
def test_a_file_that_changes_meanwhile_is_refused(folder, several, monkeypatch, chunk):
    """Its result would be remembered for the content that it had before."""

    def change(file, side_for):
        file.write_bytes(file.read_bytes() + b' ')
        return check_file(file, side_for)

    monkeypatch.setattr(check_files, 'CHUNK', chunk)
    monkeypatch.setattr(check_files, 'check_file', change)
    with pytest.raises(UserError, match=r'/blue/00\.png has changed while it was checked: start again$'):
        checked(sorted((folder / 'train').rglob('*.png')))


def test_an_unreadable_file_stays_unreadable(tmp_path):
    assert checked([tmp_path / 'none.png']) == [('No such file or directory', None, 0)]
