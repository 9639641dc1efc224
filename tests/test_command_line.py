"""Help, errors and completion of the command line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import shtab

from command_line import parser_of
from completion import parser
from export import main as export_main
from predict import main as predict_main
from train_fastai import main

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(('arguments', 'said'), [
    (['--epochs', 'x'], 'argument --epochs: invalid int value: x'),
    (['--lr'], 'argument --lr: expected one argument'),
    (['--recipe', 'soup'], 'argument --recipe: invalid choice: soup (choose from '),
    (['images'], 'unrecognized arguments: images'),
])  # fmt: skip
def test_what_cannot_be_read_is_one_line(arguments, said, capsys):
    with pytest.raises(SystemExit) as e:
        parser_of(main).parse_args(arguments)
    assert e.value.code == 2
    line, end = capsys.readouterr().err.replace("'", '').split('\n')  # Python 3.14 quotes fewer things
    assert line.startswith(f'train_fastai.py: {said}')
    assert line.endswith('; --help lists the options')
    assert end == ''


@pytest.mark.parametrize(('typed', 'offered'), [
    (['--rec'], {'--recipe'}),
    (['--recipe', 'ref'], {'reference'}),
    (['--track', ''], {'none', 'tensorboard', 'wandb'}),
    (['--epochs', '3', '--fr'], {'--fraction'}),
    (['--config', 'run'], {'run.json', 'runs'}),
    (['--resume', 'run'], {'runs'}),
])  # fmt: skip
def test_bash_completes_options_their_values_and_paths(typed, offered, tmp_path):
    (tmp_path / 'run.json').touch()
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'script').write_text(shtab.complete(parser(), 'bash'))
    words = ['./train_fastai.py', *typed]
    # as bash calls it: it finds what `complete` has registered by the last part of the path
    code = """
        . ./script
        words=("$@") function=$(complete -p "$(basename "$1")" | grep -oP '(?<=-F )\\S+')
        COMP_WORDS=("${words[@]}") COMP_CWORD=$(($# - 1))
        "$function" "$1" "${words[-1]}" "${words[-2]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(['bash', '-c', code, 'bash', *words], cwd=tmp_path, capture_output=True, text=True)
    assert ({*done.stdout.split()}, done.stderr) == (offered, '')


@pytest.mark.parametrize(('command', 'said'), [
    (predict_main, 'predict.py: the following arguments are required: run, images'),
    (export_main, 'export.py: the following arguments are required: run'),
])  # fmt: skip
def test_the_other_commands_speak_alike(command, said, capsys):
    with pytest.raises(SystemExit) as e:
        parser_of(command).parse_args([])
    assert (e.value.code, capsys.readouterr().err) == (2, f'{said}; --help lists the options\n')


def test_the_script_can_be_run_by_its_name():
    script = ROOT / 'train_fastai.py'
    assert script.read_text().startswith('#!/usr/bin/env python3\n')
    assert os.access(script, os.X_OK)


@pytest.mark.skipif(sys.platform == 'win32', reason='POSIX signals')
@pytest.mark.parametrize('script', ['train_fastai.py', 'predict.py', 'export.py'])
@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_libraries_are_imported(script, signum, tmp_path):
    for library in 'fastai', 'fastcore', 'numpy':  # whichever a script imports first
        (tmp_path / f'{library}.py').write_text(
            'import time\nprint("importing", flush=True)\ntry: time.sleep(60)\nexcept BaseException: pass'
        )
    process = subprocess.Popen(
        [sys.executable, ROOT / script, 'x'],
        env={**os.environ, 'PYTHONPATH': str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background process ignores it
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == 'importing\n'
    process.send_signal(signum)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, f'\n{script}: interrupted\n')
