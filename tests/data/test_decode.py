"""A thousand broken or odd files: each is decoded correctly, or refused with its name and the reason."""

import csv
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from bad_images import DAMAGE, ENCODERS, EPS, Case, decoded, pixels_of, write_corpus

from data.decode import check_file, open_rgb
from data.limits import BadImage

ROOT = Path(__file__).parents[2]
CHECK = """
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from data.verify import check_images, write_bad_images
images = check_images(Path(sys.argv[1]), skip_bad=True)
write_bad_images(Path(sys.argv[2]), images.bad)
print(len(images.train) + len(images.test), images.size)
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
print(getrusage(RUSAGE_CHILDREN).ru_maxrss)
"""


def refusal(file: Path) -> str | None:
    try:
        check_file(file)
    except BadImage as e:
        return str(e)


@pytest.fixture(scope='module')
def checked(tmp_path_factory) -> tuple[list[Case], dict[str, str], list[str]]:
    """The corpus, its bad_images.csv as {file: reason}, and the output of a process that only checked it."""
    tmp = tmp_path_factory.mktemp('bad')
    cases = write_corpus(tmp / 'corpus')
    command = [sys.executable, '-W', 'ignore', '-c', CHECK, tmp / 'corpus', tmp]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.PIPE, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, '')
    with (tmp / 'bad_images.csv').open(encoding='utf-8', errors='surrogateescape', newline='') as f:
        rows = [*csv.DictReader(f)]
    assert len({row['file'] for row in rows}) == len(rows)
    return cases, {row['file']: row['reason'] for row in rows}, done.stdout.splitlines()


@pytest.mark.slow
def test_the_corpus_has_1000_odd_files_besides_the_good_ones(checked):
    cases, bad, (counted, *_) = checked
    assert sum(case.kind != 'good' for case in cases) == 1000
    assert len({case.file for case in cases}) == len(cases) == 1600
    assert counted == f'{1600 - len(bad)} (32, 32)'
    assert {*bad} <= {str(case.file) for case in cases}


@pytest.mark.slow
def test_each_file_is_decoded_correctly_or_refused_with_the_reason(checked):
    cases, bad, _ = checked
    wrong, undetected = [], Counter()
    for case in cases:
        reason = bad.get(str(case.file))
        if reason is not None:
            if case.reason is None or not re.search(case.reason, reason):
                wrong.append((case.file.name, reason))
            continue
        if case.pixels is None:
            wrong.append((case.file.name, 'used'))
            continue
        apart = np.abs(np.asarray(open_rgb(case.file)).astype(int) - case.pixels).max()
        if apart > case.tolerance and case.checksum:
            wrong.append((case.file.name, f'used with other pixels, {apart} apart'))
        elif apart > case.tolerance:
            undetected[case.kind] += 1
    assert wrong == []
    # without checksums a changed byte may give another valid image: about half of these go unnoticed, and no other kind
    assert {*undetected} == {'flipped byte'}
    assert undetected['flipped byte'] < 0.6 * sum(case.kind == 'flipped byte' for case in cases)


@pytest.mark.slow
def test_each_process_of_the_check_takes_less_than_one_and_a_half_gibibytes(checked):
    _, _, (_, *peaks) = checked
    assert len(peaks) == 2  # of the process itself, and of those that it started
    for peak in peaks:
        assert 100_000 < int(peak) < 1.5 * 2**20  # KiB; torch and fastai alone are nearly half of it


def test_equal_seeds_make_equal_files(tmp_path):
    twice = [write_corpus(tmp_path / name, seed=3, n=500, good=4) for name in ('a', 'b')]
    for one, other in zip(*twice, strict=True):
        assert one.file.relative_to(tmp_path / 'a') == other.file.relative_to(tmp_path / 'b')
        if one.kind in ('truncated', 'good', 'CMYK'):
            assert one.file.read_bytes() == other.file.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize('kind', ENCODERS)
def test_truncated_at_every_length(tmp_path, kind):
    _, encode, exact, _ = ENCODERS[kind]
    a = pixels_of(np.random.default_rng(0), side=8)
    data = encode(a)
    shown, file = a if exact else decoded(data), tmp_path / 'a'
    for length in range(len(data)):
        file.write_bytes(data[:length])
        reason = refusal(file)
        if reason is not None:
            assert re.search(DAMAGE, reason), length
        else:
            np.testing.assert_array_equal(np.asarray(open_rgb(file)), shown, err_msg=f'{length} of {len(data)} bytes')


def test_every_changed_byte_of_a_png_is_noticed(tmp_path):
    a = pixels_of(np.random.default_rng(0))
    data, file = ENCODERS['png'][1](a), tmp_path / 'a.png'
    for i in range(len(data)):
        file.write_bytes(data[:i] + bytes([data[i] ^ 0x10]) + data[i + 1 :])
        if refusal(file) is None:
            assert i >= len(data) - 12  # IEND, after the pixels
            np.testing.assert_array_equal(np.asarray(open_rgb(file)), a)


def test_damage_that_pillow_ignores_is_found(tmp_path, capfd):
    data, file = ENCODERS['jpeg'][1](pixels_of(np.random.default_rng(0))), tmp_path / 'a.jpg'
    file.write_bytes(data[:-2] + bytes(99) + data[-2:])
    open_rgb(file)
    with pytest.raises(BadImage, match=r'^damaged \(Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9\)$'):
        check_file(file)
    file.write_bytes(data)
    assert check_file(file)[0] == (32, 32)
    print('still there', file=sys.stderr)
    assert capfd.readouterr() == ('', 'still there\n')


def test_no_program_is_run_for_an_image(tmp_path, monkeypatch):
    gs = tmp_path / 'gs'
    gs.write_text(f'#!/bin/sh\ntouch {tmp_path}/ran\n')
    gs.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    file = tmp_path / 'a.png'
    file.write_bytes(EPS)
    with pytest.raises(BadImage, match=r'^not a JPEG, '):
        check_file(file)
    assert not (tmp_path / 'ran').exists()
