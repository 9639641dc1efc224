"""Unpack an archive, and look at all that it has written."""

import pytest

from data.archives import unpack
from runtime.errors import UserError


def unpacked(archive):
    """Unpack and return {path: content}; nothing else may exist, inside or outside the folder."""
    folder = archive.parent / 'out' / 'new'
    folder.mkdir(parents=True)
    before = {*archive.parent.parent.rglob('*')}
    unpack(archive, folder)
    new = {*archive.parent.parent.rglob('*')} - before
    assert all(path.is_relative_to(folder) and not path.is_symlink() for path in new)
    return {str(path.relative_to(folder)): path.read_bytes() for path in new if path.is_file()}


def refusal(archive):
    """Return the reason of the refusal; nothing may have been written."""
    folder = archive.parent / 'out' / 'new'
    folder.mkdir(parents=True)
    before = {*archive.parent.parent.rglob('*')}
    with pytest.raises(UserError) as e:
        unpack(archive, folder)
    assert {*archive.parent.parent.rglob('*')} == before
    assert '\n' not in str(e.value)
    start, end = f"{archive} can't be unpacked as {archive.suffix} (", '): pass --data PATH (a folder, .tgz or .zip of '
    assert str(e.value).startswith(start)
    return str(e.value)[len(start) :].partition(end)[0]
