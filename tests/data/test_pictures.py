import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data.pictures import read_picture

EPS = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n'


def test_a_picture_of_a_run_is_read(tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    pixels[..., 3] = 255  # as written by matplotlib
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    picture = read_picture(tmp_path / 'a.png')
    assert picture.mode == 'RGB'
    assert (np.asarray(picture) == pixels[..., :3]).all()
    assert capsys.readouterr().out == ''


def test_no_program_is_run_for_a_file_with_the_name_of_a_picture(tmp_path, monkeypatch, capsys):
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin/gs').write_text(f'#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n')
    (tmp_path / 'bin/gs').chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}/bin:{os.environ["PATH"]}')
    (tmp_path / 'lr_find.png').write_bytes(EPS)
    assert read_picture(tmp_path / 'lr_find.png') is None
    assert f'{tmp_path}/lr_find.png is left out: not a' in capsys.readouterr().out
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('kind', ['jpeg', 'bomb', 'cut', 'empty', 'folder', 'pipe', 'gone'])
def test_a_file_that_is_no_png_is_left_out_with_a_line(kind, tmp_path, capsys):
    file = tmp_path / 'a\x1b[31m.png'
    Image.new('RGB', (20, 30)).save(file, 'jpeg' if kind == 'jpeg' else 'png')
    if kind == 'bomb':
        head = b'IHDR' + struct.pack('>IIBBBBB', 60_000, 60_000, 8, 2, 0, 0, 0)
        file.write_bytes(file.read_bytes()[:12] + head + struct.pack('>I', zlib.crc32(head)) + file.read_bytes()[33:])
    elif kind in ('cut', 'empty'):
        file.write_bytes(file.read_bytes()[:60] if kind == 'cut' else b'')
    elif kind != 'jpeg':
        file.unlink()
        if kind == 'folder':
            file.mkdir()
        elif kind == 'pipe':
            os.mkfifo(file) if hasattr(os, 'mkfifo') else pytest.skip('no pipes')
    assert read_picture(file) is None
    line, end = capsys.readouterr().out.split('\n')
    assert line.startswith(f'{tmp_path}/a\\x1b[31m.png is left out: ')
    assert line.isprintable()
    assert end == ''
