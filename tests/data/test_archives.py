import errno
import gzip
import io
import os
import random
import tarfile
import time
from contextlib import suppress

import pytest
from archives import refusal, unpacked

from data.archives import unpack
from runtime.errors import UserError

PNG = b'\x89PNG' + bytes(range(200))
HEADER, TYPE = 512, 156  # bytes of a member's header, and where its type is in there


def member(name, content=b'', kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def packed(path, *members, format=tarfile.PAX_FORMAT):
    with tarfile.open(path / 'a.tgz', 'w:gz', format=format) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path / 'a.tgz'


def blocks(*members):
    """A tar file with the headers as given, which `tarfile` doesn't check for consistency."""
    parts = [info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % HEADER) for info, content in members]
    return b''.join(parts) + bytes(2 * HEADER)


def zipped(path, tar):
    (path / 'a.tgz').write_bytes(gzip.compress(tar))
    return path / 'a.tgz'


@pytest.mark.parametrize('format', [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_and_folders_of_each_format(tmp_path, format):
    deep = f'train/{"f" * 90}/{"g" * 90}.png'  # over 100 characters: each format stores it in another way
    names = ['train/a/1.png', './train/a/2.png', '/abs.png', 'train/a/../b/3.png', deep]
    names += [] if format == tarfile.USTAR_FORMAT else ['train/ä' + 'é' * 120, 'train/\udcff', 'train/a\nb']
    folder, big = member('train/empty', kind=tarfile.DIRTYPE, mode=0), member('big', bytes(3 * 2**20 + 1))
    archive = packed(
        tmp_path, folder, *(member(name, PNG + name[:5].encode()) for name in names[:5]), big, format=format
    )
    inside = ['train/a/1.png', 'train/a/2.png', 'abs.png', 'train/b/3.png', deep]
    expected = {path: PNG + name[:5].encode() for path, name in zip(inside, names, strict=False)}
    assert unpacked(archive) == {**expected, 'big': bytes(3 * 2**20 + 1)}
    assert (tmp_path / 'out/new/train/empty').is_dir()
    assert os.access(tmp_path / 'out/new/train/empty', os.W_OK)

    (tmp_path / 'other').mkdir()
    archive = packed(tmp_path / 'other', *(member(name, PNG) for name in names[5:]), format=format)
    assert set(unpacked(archive)) == {*names[5:]}


def test_unpacks_the_same_files_as_tarfile(tmp_path):
    rng = random.Random(0)
    members = [member(f'{"d" * rng.randrange(1, 150)}/{i}', rng.randbytes(rng.randrange(2000))) for i in range(200)]
    archive = packed(tmp_path, *members)
    with tarfile.open(archive) as tar:
        assert unpacked(archive) == {info.name: tar.extractfile(info).read() for info in tar}


@pytest.mark.parametrize(
    ('kind', 'what'),
    [
        (tarfile.SYMTYPE, 'a symbolic link'),
        (tarfile.LNKTYPE, 'a hard link'),
        (tarfile.CHRTYPE, 'a device'),
        (tarfile.BLKTYPE, 'a device'),
        (tarfile.FIFOTYPE, 'a pipe'),
        (tarfile.GNUTYPE_SPARSE, 'a sparse file'),
        (b'V', 'neither a file nor a folder'),
    ],
)
@pytest.mark.parametrize('link', ['a.png', '../../outside', '/etc'])
def test_members_other_than_files_and_folders_are_refused_by_name(tmp_path, kind, what, link):
    archive = zipped(tmp_path, blocks(member('a.png', PNG), member('train/x', kind=kind, linkname=link)))
    assert refusal(archive) == f"'train/x' is {what}, which is not unpacked: pack the files themselves"


def test_links_beyond_the_longest_path_are_refused(tmp_path):
    """CVE-2025-4517: `realpath` gives up on a path that is too long, and so did the filter; each link is refused."""
    long, steps, path, members = 'd' * 247, 'abcdefghijklmnop', '', []
    for step in steps:
        members += [member(path + long, kind=tarfile.DIRTYPE), member(path + step, kind=tarfile.SYMTYPE, linkname=long)]
        path += f'{long}/'
    up = '/'.join(steps) + f'/{"l" * 254}'
    members += [member(up, kind=tarfile.SYMTYPE, linkname='../' * len(steps))]
    members += [member('escape', kind=tarfile.SYMTYPE, linkname=f'{up}/../../../..'), member('escape/file', PNG)]
    said = refusal(packed(tmp_path, *members))
    assert said == "'a' is a symbolic link, which is not unpacked: pack the files themselves"


@pytest.mark.parametrize('name', ['../x', 'a/../../x', '/../x', '..', 'a/../../new2/x', '', '.', 'a/..'])
def test_a_file_outside_of_the_folder_is_refused(tmp_path, name):
    archive = zipped(tmp_path, blocks(member('a/1.png', PNG), member(name, PNG)))
    assert refusal(archive) == f"'{name}' would be written outside of its folder"


@pytest.mark.parametrize(
    ('headers', 'said'),
    [
        ({'path': 'a\0b.png'}, r"'a\x00b.png' would be written outside of its folder"),
        ({'path': '../x'}, "'../x' would be written outside of its folder"),
        ({'path': 'd/' * 3000 + 'x'}, f"'{'d/' * 100}' lies in more than 32 nested folders"),
        ({'size': '-5'}, 'a file with a negative size'),
        ({'size': '9' * 30}, 'it ends within a file'),
        ({'size': 'many'}, "invalid literal for int() with base 10: b'many'"),
        (
            {'GNU.sparse.map': 'a,b', 'GNU.sparse.size': 'x'},
            "'m.png' is a sparse file, which is not unpacked: pack the files themselves",
        ),
        (
            {'GNU.sparse.map': '0,10', 'GNU.sparse.size': str(10**13)},
            "'m.png' is a sparse file, which is not unpacked: pack the files themselves",
        ),
        (
            {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0'},
            "'m.png' is a sparse file, which is not unpacked: pack the files themselves",
        ),
    ],
)
def test_harmful_extended_headers_are_refused(tmp_path, headers, said):
    assert refusal(packed(tmp_path, member('m.png', PNG, pax_headers=headers))) == said


@pytest.mark.parametrize(
    'headers', [{'mtime': 'nan'}, {'mtime': 'inf'}, {'mtime': str(10**25)}, {'uid': '9' * 4000}, {'mtime': '-1e12'}]
)
def test_times_and_owners_are_ignored(tmp_path, headers):
    assert unpacked(packed(tmp_path, member('m.png', PNG, pax_headers=headers))) == {'m.png': PNG}


def test_headers_that_keep_tarfile_busy_take_no_time(tmp_path):
    """CVE-2024-6232, a header of digits: 1 MiB takes Python 3.11.7 an hour. Also chained headers."""
    digits = blocks(member('x', b'1' * 2**19, tarfile.XHDTYPE), member('a', PNG))
    chain = blocks(*[member('x', b'13 path=a/b\n\n', tarfile.XHDTYPE)] * 3000, member('a', PNG))
    record = b'13 comment=x\n' * 50_000
    start = time.process_time()
    for tar, said in (digits, 'a header without its length'), (chain, None), (blocks(member('x', record, b'x')), None):
        (tmp_path / str(len(tar))).mkdir()
        archive = zipped(tmp_path / str(len(tar)), tar)
        assert refusal(archive) == said if said else unpacked(archive) is not None
    assert time.process_time() - start < 5


def test_a_negative_size_does_not_loop(tmp_path):
    """CVE-2025-8194."""
    tar = bytearray(blocks(member('a.png', PNG)))
    tar[124:136] = (-512).to_bytes(12, 'big', signed=True)
    tar[148:156] = b' ' * 8
    tar[148:156] = b'%06o\0 ' % sum(tar[:512])
    assert refusal(zipped(tmp_path, bytes(tar))) == 'a file with a negative size'


@pytest.mark.parametrize('name', ['{i}', '{i}/x', 'same'], ids=['files', 'folders', 'one name'])
def test_too_many_members_are_refused_before_any_is_written(tmp_path, monkeypatch, name):
    monkeypatch.setattr('data.archives.FREE_ENTRIES', 200)
    n = 150 if 'x' in name else 300  # each file has its own folder
    archive = zipped(tmp_path, blocks(*(member(name.format(i=i)) for i in range(n))))
    most = 200 + archive.stat().st_size // 100
    assert most < 290
    assert refusal(archive) == f'it has more than {most:,} files and folders: if you trust it, unpack it yourself'


def test_files_and_the_folders_around_them_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr('data.archives.MAX_ENTRIES', 9)
    archive = packed(tmp_path, *(member(f'a/{i}', PNG) for i in range(9)))  # and a/ itself
    assert refusal(archive).startswith('it has more than 9 files')
    monkeypatch.setattr('data.archives.MAX_ENTRIES', 10)
    (tmp_path / 'out/new').rmdir()
    (tmp_path / 'out').rmdir()
    assert len(unpacked(archive)) == 9


@pytest.mark.parametrize('members', [
    [member('a.png', PNG), member('a.png/b.png', PNG)],
    [member('a/b.png', PNG), member('a', PNG)],
    [member('x' * 256, PNG)],
])  # fmt: skip
def test_names_that_cannot_be_written_end_in_one_line(tmp_path, members):
    archive = packed(tmp_path, *members)
    (tmp_path / 'out').mkdir()
    with pytest.raises(UserError, match=r"a\.tgz can't be unpacked as \.tgz \((File|Is a|Not a)[^']*\): pass --data"):
        unpack(archive, tmp_path / 'out')


def test_a_later_file_of_the_same_name_replaces_the_earlier(tmp_path):
    assert unpacked(packed(tmp_path, member('a', b'first'), member('a', b'2nd'))) == {'a': b'2nd'}


def test_a_full_disk_raises_oserror(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, 'No space left on device')

    archive = packed(tmp_path, member('a', PNG))
    monkeypatch.setattr('data.archives.open', full, raising=False)
    with pytest.raises(OSError, match='No space left'):
        unpack(archive, tmp_path)


def test_a_damaged_header_is_not_the_end_of_the_archive(tmp_path):
    """`tarfile` takes a damaged header for the end and drops the images after it."""
    tar = bytearray(blocks(member('a', PNG), member('b', PNG)))
    tar[2 * HEADER] ^= 1
    assert refusal(zipped(tmp_path, bytes(tar))) == 'bad checksum'


def test_a_truncated_archive_is_refused_or_complete(tmp_path):
    tar = blocks(member('a', PNG), member('long', b'15 path=cc/cc\n\n', tarfile.XHDTYPE), member('b', PNG))
    for i, n in enumerate(range(100, len(tar), 100)):
        (tmp_path / str(i)).mkdir()
        archive = zipped(tmp_path / str(i), tar[:n])
        if n >= 6 * HEADER:  # only the zeros at the end are missing
            assert unpacked(archive) == {'a': PNG, 'cc/cc\n': PNG} or n % HEADER
        else:
            assert refusal(archive)


def test_random_damage_ends_in_one_line_and_stays_inside(tmp_path):
    rng = random.Random(1)
    good = blocks(
        member('train/a/1.png', PNG),
        member('x', b'20 path=train/b/2.png\n', tarfile.XHDTYPE),
        member('b', PNG),
        member('L', b'train/c/3.png\0', tarfile.GNUTYPE_LONGNAME),
        member('c', PNG),
    )
    heads = [i for i in range(0, len(good) - 2 * HEADER, HEADER) if good[i + 257 : i + 262] == b'ustar']
    for i in range(200):
        tar = bytearray(good)
        head = rng.choice(heads)
        for _ in range(rng.randrange(1, 5)):
            tar[head + rng.randrange(HEADER)] = rng.randrange(256)
        if rng.random() < 0.3:
            tar[head + TYPE] = rng.choice(b'0123456789xgLKSXDV\0')
        tar[head + 148 : head + 156] = b' ' * 8  # corrects the checksum
        tar[head + 148 : head + 156] = b'%06o\0 ' % sum(tar[head : head + HEADER])
        folder = tmp_path / str(i)
        folder.mkdir()
        archive = zipped(folder, bytes(tar))
        with suppress(UserError):
            unpack(archive, folder / 'out')
        assert {path.name for path in folder.iterdir()} <= {'a.tgz', 'out'}
        assert not any(path.is_symlink() for path in folder.rglob('*'))
    assert len(list(tmp_path.iterdir())) == 200
