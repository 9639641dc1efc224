import errno
import gzip
import io
import multiprocessing
import os
import shutil
import tarfile
import threading
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from fastai.data.external import URLs, fastai_cfg, fastai_path
from PIL import Image
from sklearn.datasets import load_digits

from data import sources
from data.sources import find_images, get_source
from runtime.errors import UserError


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """fastai's data folder, in a temporary home."""
    monkeypatch.setenv('FASTAI_HOME', str(tmp_path / 'home'))
    fastai_cfg.cache_clear()
    yield fastai_path('data')
    fastai_cfg.cache_clear()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / 'wörk data' / 'pets'
    for name in 'train/cat/a', 'train/dog/a', 'test/cat/b', 'test/dog/b':
        file = path / f'{name}.png'
        file.parent.mkdir(parents=True)
        Image.new('RGB', (16, 16)).save(file)
    return path


def pack(archive, folder, name='.'):
    with tarfile.open(archive, 'w:gz') as tar:
        tar.add(folder, arcname=name)
    return archive


def refusal(data):
    with pytest.raises(UserError) as e:
        find_images(data)
    assert '\n' not in str(e.value)
    return str(e.value)


def left(kept):
    return sorted(p.name for p in kept.iterdir()) if kept.exists() else []


# folders


@pytest.mark.parametrize('kind', [str, Path])
def test_a_folder_is_used_in_place(folder, kind):
    images = find_images(kind(folder))
    assert images.path == folder
    assert images.train == [folder / 'train/cat/a.png', folder / 'train/dog/a.png']


def test_a_tilde_is_home(folder, monkeypatch):
    monkeypatch.setenv('HOME', str(folder.parent))
    assert find_images('~/pets').path == folder


def test_a_missing_path(tmp_path):
    message = refusal(tmp_path / 'nothing')
    assert message.startswith(f'{tmp_path}/nothing is neither a folder nor a file: ')
    assert '--data PATH' in message
    assert '--data digits' in message


def test_skip_bad_is_passed_on(folder):
    (folder / 'train/cat/x.txt').write_text('no image')
    assert 'x.txt (not a JPEG,' in refusal(folder)
    ((file, _),) = find_images(folder, skip_bad=True).bad
    assert file == folder / 'train/cat/x.txt'


# archives


@pytest.mark.parametrize('name', ['.', 'wrapped'])
@pytest.mark.parametrize('ext', ['.tgz', '.tar.gz'])
def test_an_archive_is_unpacked_once(folder, kept, name, ext):
    archive = pack(folder.parent / f'pets{ext}', folder, name)
    images = find_images(archive)
    assert [str(f.relative_to(images.path)) for f in images.train] == ['train/cat/a.png', 'train/dog/a.png']
    assert images.path.parent == kept
    (images.path / 'mark').touch()
    assert (find_images(archive).path / 'mark').exists()
    assert left(kept) == [images.path.name, 'pixels']


@pytest.mark.parametrize('name', ['.', 'wrapped'])
def test_an_archive_of_class_folders(folder, kept, name):
    for i in range(10):
        for cls in 'cat', 'dog':
            Image.new('RGB', (16, 16)).save(folder / f'train/{cls}/{i}.png')
    images = find_images(pack(folder.parent / 'pets.tgz', folder / 'train', name))
    assert (images.classes, len(images.train), len(images.test)) == (['cat', 'dog'], 18, 4)


def test_an_archive_from_a_mac_inside_other_folders(folder, kept):
    for name in '__MACOSX/photos/train/cat/._a.png', '__MACOSX/photos/test/x', 'photos/set/README':
        (folder.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.parent / name).write_bytes(b'\0\5\x16\7')
    shutil.copytree(folder, folder.parent / 'photos/set/v1')
    with tarfile.open(folder.parent / 'mac.tgz', 'w:gz') as tar:
        for name in 'photos', '__MACOSX':
            tar.add(folder.parent / name, arcname=name)
    images = find_images(folder.parent / 'mac.tgz')
    assert (images.classes, len(images.train), len(images.test), images.bad) == (['cat', 'dog'], 2, 2, [])
    assert left(kept) == [images.path.name, 'pixels']


@pytest.mark.parametrize('name', ['x' * 251, 'é' * 125, 'new\nline \'and "quotes'])
def test_an_archive_of_any_name(folder, kept, name):
    images = find_images(pack(folder.parent / f'{name}.tgz', folder))
    assert images.path.name.startswith(f'{name[:50]}')


def test_a_full_disk_is_reported_with_its_folder(folder, kept, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('data.archives.open', full, raising=False)
    message = f'the disk of {kept} is full: free some space, or set FASTAI_HOME to a folder on another disk'
    assert refusal(pack(folder.parent / 'pets.tgz', folder)) == message
    assert left(kept) == []
    monkeypatch.setattr(sources, '_write_digits', full)
    assert refusal('digits') == message
    assert left(kept) == []


def test_a_changed_archive_is_unpacked_again(folder, kept):
    before = get_source(pack(folder.parent / 'pets.tgz', folder))
    (folder / 'train/cat/a.png').rename(folder / 'train/cat/new.png')
    after = get_source(pack(folder.parent / 'pets.tgz', folder))
    assert before != after
    assert (after / 'train/cat/new.png').exists()


def test_damaged_archives_leave_nothing(folder, kept):
    whole = pack(folder.parent / 'pets.tgz', folder).read_bytes()
    archive = folder.parent / 'bad.tgz'
    checksum = bytearray(whole)
    checksum[-8] ^= 1
    for data in whole[:-20], whole[:100], whole[:-50] + bytes(50), bytes(checksum), b'', b'no archive':
        archive.write_bytes(data)
        assert refusal(archive).startswith(f"{archive} can't be unpacked as .tgz (")
        assert left(kept) == []


def test_an_archive_of_something_else(tmp_path, kept):
    (tmp_path / 'docs').mkdir()
    archive = pack(tmp_path / 'docs.tgz', tmp_path / 'docs')
    assert refusal(archive).startswith(f'{archive} has neither train/<class>/ nor two class folders inside: ')
    assert left(kept) == []


@pytest.mark.parametrize(
    ('name', 'kind', 'link'),
    [
        ('../escaped', tarfile.REGTYPE, ''),
        ('train/cat/../../../escaped', tarfile.REGTYPE, ''),
        ('train/link', tarfile.SYMTYPE, '../../escaped'),
        ('train/link', tarfile.SYMTYPE, '/etc'),
        ('train/link', tarfile.LNKTYPE, '../escaped'),
        ('train/pipe', tarfile.FIFOTYPE, ''),
        ('train/device', tarfile.CHRTYPE, ''),
    ],
)
def test_unsafe_archives_are_refused(folder, tmp_path, kept, name, kind, link):
    archive = tmp_path / 'unsafe.tgz'
    with tarfile.open(archive, 'w:gz') as tar:
        tar.add(folder, arcname='.')
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        tar.addfile(member, io.BytesIO())
    assert refusal(archive).startswith(f"{archive} can't be unpacked as .tgz (")
    assert left(kept) == []
    assert not list(tmp_path.rglob('escaped'))


def test_an_absolute_name_stays_inside(folder, tmp_path, kept):
    archive = tmp_path / 'absolute.tgz'
    outside = tmp_path / 'outside.txt'
    with tarfile.open(archive, 'w:gz') as tar:
        tar.add(folder, arcname='.')
        member = tarfile.TarInfo(str(outside))
        tar.addfile(member, io.BytesIO())
    assert find_images(archive).path.parent == kept
    assert not outside.exists()


def zeros(n):
    """`n` MiB of zeros compressed by gzip: a sequence of 1 MiB members is one file."""
    return gzip.compress(bytes(2**20)) * n


def header(name, kind, size):
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return gzip.compress(member.tobuf(tarfile.GNU_FORMAT))


@pytest.mark.parametrize(
    'start',
    [
        header('train/cat/a.png', tarfile.REGTYPE, 2**32),
        header('x', tarfile.XHDTYPE, 2**32),
        gzip.compress(bytes(1024)),
    ],
    ids=['file', 'header of a header', 'behind the end'],
)
def test_a_decompression_bomb_is_refused_before_it_goes_off(tmp_path, kept, start):
    archive = tmp_path / 'bomb.tgz'
    archive.write_bytes(start + zeros(300))  # 300 MiB in 300 KiB: more than 100 times its size + 128 MiB
    tracemalloc.start()
    message = refusal(archive)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message.startswith(f"{archive} can't be unpacked as .tgz (it unpacks to more than 100 times its size: ")
    assert peak < 10 * 2**20
    assert left(kept) == []


# the digits


def test_digits(kept):
    images = find_images('digits')
    assert images.path == kept / 'digits16'
    assert (images.classes, images.size) == (list('0123456789'), (16, 16))
    assert (len(images.train), len(images.test)) == (1437, 360)

    digits = load_digits()
    for file in images.train[::100] + images.test[::100]:
        i = int(file.stem)
        assert file.parent.name == str(digits.target[i])
        pixels = np.asarray(Image.open(file))
        assert pixels.shape == (16, 16, 3)
        for y in range(16):
            for x in range(16):
                ink = int(digits.images[i, y // 2, x // 2])  # 0 to 16
                assert pixels[y, x].tolist() == [round(ink * 255 / 16)] * 3

    counts = Counter(digits.target.tolist())
    test = Counter(int(file.parent.name) for file in images.test)
    assert all(abs(test[digit] - n / 5) < 1 for digit, n in counts.items())
    assert sorted(int(f.stem) for f in images.train + images.test) == list(range(1797))


def test_digits_are_written_once_and_the_same_way(kept, tmp_path, monkeypatch):
    first = get_source('digits')
    monkeypatch.setattr(sources, 'load_digits', None)  # a second writing would fail
    assert get_source('digits') == first
    monkeypatch.undo()
    names = [f.relative_to(first) for f in sorted(first.rglob('*.png'))]
    monkeypatch.setenv('FASTAI_HOME', str(tmp_path / 'other'))
    fastai_cfg.cache_clear()
    second = get_source('digits')
    assert second != first
    assert [f.relative_to(second) for f in sorted(second.rglob('*.png'))] == names


def test_an_interrupted_write_leaves_nothing(kept, monkeypatch):
    saved = []

    def save(self, file):
        saved.append(file)
        if len(saved) == 100:
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, 'save', save)
    with pytest.raises(KeyboardInterrupt):
        get_source('digits')
    assert left(kept) == []


def _killed_while_writing():
    save = Image.Image.save

    def save_or_die(self, file):
        save(self, file) if file.stem != '0100' else os._exit(9)

    Image.Image.save = save_or_die
    get_source('digits')


def test_a_killed_write_is_not_taken_for_complete(kept):
    process = multiprocessing.get_context('fork').Process(target=_killed_while_writing)
    process.start()
    process.join(30)
    assert process.exitcode == 9
    (half,) = left(kept)
    assert half.startswith('.')
    assert len(list(get_source('digits').rglob('*.png'))) == 1797


def test_two_writers_at_once(kept, monkeypatch):
    both_write = threading.Barrier(2, timeout=30)

    def load():
        both_write.wait()
        return load_digits()

    monkeypatch.setattr(sources, 'load_digits', load)
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(get_source, ['digits', 'digits']))
    assert paths == [kept / 'digits16'] * 2
    assert left(kept) == ['digits16']
    assert len(list(paths[0].rglob('*.png'))) == 1797


# CIFAR-10


def test_no_network_is_reported_in_one_line_with_both_ways_out(kept, monkeypatch):
    def offline(url):
        raise URLError('Name or service not known')

    monkeypatch.setattr(sources, 'untar_data', offline)
    message = refusal('cifar10')
    assert message.startswith(f"CIFAR-10 isn't in {kept} and can't be downloaded (")
    assert 'Name or service not known' in message
    assert '--data PATH' in message
    assert '--data digits' in message


@pytest.fixture
def mirror(monkeypatch):
    """A local mirror of CIFAR-10 that sends `body` and announces `length` bytes."""

    class Handler(BaseHTTPRequestHandler):
        body, length, asked = b'', 0, 0

        def do_GET(self):
            Handler.asked += 1
            self.send_response(200)
            self.send_header('Content-Length', str(Handler.length))
            self.end_headers()
            self.wfile.write(Handler.body)

        def log_message(self, *args):
            pass

    server = HTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(URLs, 'CIFAR', f'http://127.0.0.1:{server.server_port}/cifar10.tgz')
    yield Handler
    server.shutdown()
    server.server_close()


def test_a_download_cut_short_is_not_kept(kept, mirror):
    mirror.body, mirror.length = bytes(100), 200
    for _ in range(2):
        assert refusal('cifar10').startswith("CIFAR-10 isn't in ")
        assert not (fastai_path('archive') / 'cifar10.tgz').exists()
        assert left(kept) == []
    assert mirror.asked == 2


def test_a_download_that_is_no_archive_is_not_kept(kept, mirror):
    mirror.body, mirror.length = b'Log in to this network', 22
    for _ in range(2):
        assert refusal('cifar10').startswith("CIFAR-10 isn't in ")
        assert left(kept) == []
    assert mirror.asked == 2


def test_a_part_of_cifar10_is_refused(folder, kept, mirror, capsys):
    mirror.body = pack(folder.parent / 'cifar10.tgz', folder, 'cifar10').read_bytes()
    mirror.length = len(mirror.body)
    message = f'{kept}/cifar10 has 2 + 2 images, CIFAR-10 has 50000 + 10000: rename it and run again'
    assert refusal('cifar10') == message
    assert refusal('cifar10') == message  # it isn't accepted the second time
    shutil.rmtree(kept / 'cifar10')
    assert refusal('cifar10') == message
    assert mirror.asked == 2  # the damaged archive isn't unpacked again
    assert capsys.readouterr().out == 'downloading CIFAR-10, 135 MB\n' * 2  # no bar


def test_complete_cifar10_is_accepted(kept):
    for split, n in ('train', 5000), ('test', 1000):
        first = kept / 'cifar10' / split / 'class0'
        first.mkdir(parents=True)
        for i in range(n):
            (first / f'{i}.png').touch()
        for i in range(1, 10):  # ten classes of equal size, without writing 60,000 files
            (first.parent / f'class{i}').symlink_to(first)
    assert get_source('cifar10') == kept / 'cifar10'
