import random
import stat
import struct
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZipFile, ZipInfo

import pytest
from archives import refusal, unpacked

from data.archives import unpack
from runtime.errors import UserError

PNG = b'\x89PNG' + bytes(range(200))


def packed(path, *members, method=ZIP_DEFLATED):
    """Write a.zip of (name, content, mode)."""
    with ZipFile(path / 'a.zip', 'w', method) as archive:
        for name, content, *mode in members:
            info = ZipInfo(name)
            info.compress_type, info.external_attr = method, (mode or [0])[0] << 16
            archive.writestr(info, content)
    return path / 'a.zip'


def test_files_and_folders(tmp_path):
    big = bytes(3 * 2**20 + 1)
    names = ['train/a/1.png', './train/a/2.png', '/abs.png', 'train/a/../b/3.png', 'train/ä.png']
    archive = packed(tmp_path, ('train/empty/', b'', stat.S_IFDIR), *((name, PNG) for name in names), ('big', big))
    inside = ['train/a/1.png', 'train/a/2.png', 'abs.png', 'train/b/3.png', 'train/ä.png']
    assert unpacked(archive) == {**dict.fromkeys(inside, PNG), 'big': big}
    assert (tmp_path / 'out/new/train/empty').is_dir()


@pytest.mark.parametrize(('mode', 'what'), [
    (stat.S_IFLNK, 'a symbolic link'),
    (stat.S_IFIFO, 'a pipe'),
    (stat.S_IFSOCK, 'a socket'),
    (stat.S_IFCHR, 'a device'),
    (stat.S_IFBLK, 'a device'),
    (0o170000, 'neither a file nor a folder'),
])  # fmt: skip
def test_members_other_than_files_and_folders_are_refused_by_name(tmp_path, mode, what):
    archive = packed(tmp_path, ('a.png', PNG), ('train/x', b'../../outside', mode | 0o777))
    assert refusal(archive) == f"'train/x' is {what}, which is not unpacked: pack the files themselves"


@pytest.mark.parametrize('name', ['../x', 'a/../../x', '/../x', '..', 'a/../../new2/x', '.', 'a/..'])
def test_a_file_outside_of_the_folder_is_refused(tmp_path, name):
    archive = packed(tmp_path, ('a/1.png', PNG), (name, PNG))
    assert refusal(archive) == f"'{name}' would be written outside of its folder"


def test_deep_folders_are_refused(tmp_path):
    name = 'd/' * 33 + 'x'
    assert refusal(packed(tmp_path, (name, PNG))) == f"'{name}' lies in more than 32 nested folders"


def test_a_bomb_is_refused(tmp_path):
    archive = packed(tmp_path, *((str(i), bytes(2**24)) for i in range(10)))  # 160 MiB in 160 KiB
    assert refusal(archive) == 'it unpacks to more than 100 times its size: a decompression bomb?'


def test_members_that_share_their_bytes_are_a_bomb_too(tmp_path):
    archive = packed(tmp_path, ('0', bytes(2**24)))
    content = archive.read_bytes()
    start = content.index(b'PK\1\2')
    entry, end = content[start : content.index(b'PK\5\6')], bytearray(content[content.index(b'PK\5\6') :])
    struct.pack_into('<HHL', end, 8, 10, 10, 10 * len(entry))
    archive.write_bytes(content[:start] + 10 * entry + end)
    assert 'bomb' in (said := refusal(archive)) or 'Overlapped' in said


def test_too_many_members_are_refused_before_any_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr('data.archives.FREE_ENTRIES', 20)
    archive = packed(tmp_path, *((f'{i}/x', b'') for i in range(300)))
    most = 20 + archive.stat().st_size // 100
    assert most < 600  # each file has its own folder
    assert refusal(archive) == f'it has more than {most:,} files and folders: if you trust it, unpack it yourself'


def test_a_list_of_files_that_fills_the_memory_is_not_read(tmp_path, monkeypatch):
    archive = packed(tmp_path, *((f'{i}', b'') for i in range(3000)))
    monkeypatch.setattr('data.zip_archive.MAX_DIRECTORY', 100_000)
    assert refusal(archive) == 'its list of files is too long: if you trust it, unpack it yourself'


@pytest.mark.parametrize('method', [ZIP_BZIP2, ZIP_LZMA])
def test_other_methods_are_refused(tmp_path, method):
    assert refusal(packed(tmp_path, ('a', PNG), method=method)) == "'a' is compressed by another method than deflate"


def test_an_encrypted_file_is_refused(tmp_path):
    archive = packed(tmp_path, ('a', PNG))
    content = bytearray(archive.read_bytes())
    content[content.index(b'PK\1\2') + 8] |= 1
    archive.write_bytes(content)
    assert refusal(archive) == "'a' is encrypted"


def test_a_changed_byte_is_refused(tmp_path):
    archive = packed(tmp_path, ('a', PNG), ('b', PNG), method=0)
    content = bytearray(archive.read_bytes())
    content[content.rindex(PNG) + 50] ^= 1
    archive.write_bytes(content)
    assert refusal(archive) == "Bad CRC-32 for file 'b'"


def test_random_damage_ends_in_one_line_and_stays_inside(tmp_path):
    rng = random.Random(1)
    good = packed(tmp_path, *((f'train/{i}/{i}.png', PNG) for i in range(3))).read_bytes()
    refused = 0
    for i in range(300):
        content = bytearray(good)
        for _ in range(rng.randrange(1, 5)):
            content[rng.randrange(2, len(good))] = rng.randrange(256)
        if rng.random() < 0.2:
            del content[rng.randrange(2, len(good)) :]
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / 'a.zip').write_bytes(content)
        try:
            unpack(folder / 'a.zip', folder / 'out')
        except UserError:
            refused += 1
        assert {path.name for path in folder.iterdir()} <= {'a.zip', 'out'}
        assert not any(path.is_symlink() for path in folder.rglob('*'))
    assert refused > 100
