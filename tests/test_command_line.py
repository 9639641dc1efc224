"""Help, errors and completion of the command line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import shtab

from config.command_line import export_parser, predict_parser, train_parser
from config.completion import parser

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(('arguments', 'said'), [
    (['--epochs', 'x'], 'argument --epochs: invalid int value: x'),
    (['--lr'], 'argument --lr: expected one argument'),
    (['--recipe', 'soup'], 'argument --recipe: invalid choice: soup (choose from '),
    (['images'], 'unrecognized arguments: images'),
])  # fmt: skip
def test_an_argument_error_is_one_line(arguments, said, capsys):
    with pytest.raises(SystemExit) as e:
        train_parser().parse_args(arguments)
    assert e.value.code == 2
    line, end = capsys.readouterr().err.replace("'", '').split('\n')  # Python 3.14 quotes less
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
    # simulates bash, which finds the function registered by `complete` for the last part of the path
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
    (predict_parser, 'predict.py: the following arguments are required: run, images'),
    (lambda: export_parser(['onnx']), 'export.py: the following arguments are required: run'),
])  # fmt: skip
def test_the_other_commands_report_errors_the_same_way(command, said, capsys):
    with pytest.raises(SystemExit) as e:
        command().parse_args([])
    assert (e.value.code, capsys.readouterr().err) == (2, f'{said}; --help lists the options\n')


def test_the_script_is_executable():
    script = ROOT / 'train_fastai.py'
    assert script.read_text().startswith('#!/usr/bin/env python3\n')
    assert os.access(script, os.X_OK)


@pytest.mark.skipif(sys.platform == 'win32', reason='POSIX signals')
@pytest.mark.parametrize(('script', 'arguments'), [
    ('train_fastai.py', []), ('predict.py', ['run', 'image']), ('export.py', ['run']),
])  # fmt: skip
@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_interrupting_the_imports_exits_with_130(script, arguments, signum, tmp_path):
    for library in 'fastai', 'fastcore', 'numpy':  # a script imports one of them first
        (tmp_path / f'{library}.py').write_text(
            'import time\nprint("importing", flush=True)\ntry: time.sleep(60)\nexcept BaseException: pass'
        )
    process = subprocess.Popen(
        [sys.executable, ROOT / script, *arguments],
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


OPTIONS = [
    'version', 'data', 'size', 'valid', 'fraction', 'workers', 'skip-bad', 'no-skip-bad', 'recipe', 'arch',
    'pretrained', 'no-pretrained', 'weights', 'epochs', 'bs', 'lr', 'augment', 'early-stop', 'mixup', 'weight-classes',
    'no-weight-classes', 'seed', 'compile', 'no-compile', 'out', 'name',
    'checkpoint-minutes', 'keep-checkpoints', 'no-keep-checkpoints', 'track', 'config', 'resume', 'review',
    'verdicts',
]  # fmt: skip


def test_the_options_are_these():
    made = [name for action in train_parser()._actions for name in action.option_strings]
    assert sorted(made) == sorted(['-h', '--help', *(f'--{name}' for name in OPTIONS)])


def test_help_says_what_each_option_does_and_its_default():
    text = subprocess.run(
        [sys.executable, ROOT / 'train_fastai.py', '--help'],
        capture_output=True,
        text=True,
        env={**os.environ, 'COLUMNS': '80'},
    ).stdout
    assert max(map(len, text.splitlines())) <= 100
    for action in train_parser()._actions[2:]:
        takes_value = action.nargs != 0 and action.metavar not in ('RUN', 'FILE')
        assert ('(default: ' in action.help) == takes_value, action.dest
    assert text.endswith('exit codes: 0 done, 1 a bug, 2 something given is unusable, 130 interrupted\n')


def test_the_help_imports_no_pytorch():
    code = 'import sys; import config.command_line; print({"torch", "numpy", "matplotlib", "fastai"} & {*sys.modules})'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == 'set()\n'


def test_given_options_alone_are_passed_on():
    given = vars(train_parser().parse_args(['--epochs', '3', '--lr', 'auto', '--skip-bad', '--valid', '0.25']))
    assert given == {'epochs': 3, 'lr': 'auto', 'skip_bad': True, 'valid': 0.25}


@pytest.mark.parametrize('flag', ['skip-bad', 'pretrained', 'compile', 'weight-classes', 'keep-checkpoints'])
@pytest.mark.parametrize('value', [True, False])
def test_a_flag_turns_an_option_on_or_off(flag, value):
    given = train_parser().parse_args([f'--{flag}' if value else f'--no-{flag}'])
    assert vars(given) == {flag.replace('-', '_'): value}
