"""Kill a small training run with SIGKILL at random moments, resume it until it is done, and compare what comes out.

    python benchmarks/kill.py --kills 100

Each run is killed again and again, each time after a random time, at most six tenths of what one takes when left alone,
and then goes on with `--resume`. What has to come out the same, bit for bit: the weights in best.pth and last.pth, and
all else that last.pth has but the seconds; history.csv but the seconds; mistakes.csv; the test accuracy. Half of the
runs load their images with two workers, all write a checkpoint after each batch. Prints how many kills hit which phase.
"""

import csv
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import numpy as np
import torch
from fastcore.script import call_parse
from PIL import Image

SCRIPT = Path(__file__).parents[1] / 'train_fastai.py'
OPTIONS = ['--epochs', '3', '--bs', '2', '--valid', '0.25', '--recipe', 'reference', '--checkpoint-minutes', '0']
LONGEST = 0.6  # so that few runs end before they are killed


def _write_images(root: Path) -> Path:
    """Three classes of noise around a colour: 12 training and 4 test images of 16x16 each."""
    rng = np.random.default_rng(0)
    for split, n in (('train', 12), ('test', 4)):
        for channel, name in enumerate(('red', 'green', 'blue')):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 200, (16, 16, 3), dtype=np.uint8)
                pixels[..., channel] += 40
                Image.fromarray(pixels).save(root / split / name / f'{i:02}.png')
    return root


def _run(tmp: str, name: str, *args) -> subprocess.Popen:
    """Start train_fastai.py, in a new folder unless `args` resume one."""
    where = [] if '--resume' in args else [*OPTIONS, '--out', tmp, '--name', name]
    command = [sys.executable, SCRIPT, *map(str, [*where, *args])]
    with Path(tmp, f'{name}.log').open('a') as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, 'OMP_NUM_THREADS': '1'})


def _ended(process: subprocess.Popen, seconds: float) -> bool:
    """Whether `process` ends by itself; it is killed after `seconds`."""
    sleep(seconds)
    if process.poll() is not None:
        return True
    process.kill()
    process.wait()
    return False


def _phase(run: Path) -> str:
    """What the killed run was at, as its folder tells."""
    if not run.exists():
        return 'before the run folder'
    if list(run.glob('models/.*.part')):
        return 'a write in models/'
    if not (run / 'sweep.json').exists():
        return 'samples and sweep'
    if not list(run.glob('models/last*.pth')):
        return 'training, before the first checkpoint'
    if not (run / 'plots/accuracy_loss.png').exists():
        return 'training or validation'
    return 'review'


def _unreadable(run: Path) -> list[Path]:
    """Files, under their final names, that can't be read."""
    bad = []
    for file in run.rglob('*'):
        try:
            if file.suffix == '.pth':
                torch.load(file, weights_only=True)
            elif file.suffix == '.json':
                json.loads(file.read_text())
            elif file.suffix == '.png':
                Image.open(file).load()
            elif file.suffix == '.csv':
                list(csv.DictReader(file.open(), strict=True))
        except Exception as e:  # whatever makes a file unreadable counts, and each reader has its own
            print(f'{file}: {e}')
            bad.append(file)
    return bad


def _ending(run: Path) -> dict:
    """What has to be the same, as comparable values."""
    last = torch.load(run / 'models/last.pth', weights_only=True)
    del last['callbacks']['history']  # it's in history.csv, and has the seconds
    rows = [{**row, 'seconds': None} for row in csv.DictReader((run / 'history.csv').open())]
    return {
        'best.pth': _bits(torch.load(run / 'models/best.pth', weights_only=True)),
        'last.pth': _bits(last),
        'history.csv': rows,
        'mistakes.csv': (run / 'mistakes.csv').read_text(),
        'test accuracy': json.loads((run / 'summary.json').read_text())['test_accuracy'],
    }


def _bits(content):
    """`content` with each tensor as its type, shape and bytes."""
    if isinstance(content, dict):
        return {key: _bits(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_bits(value) for value in content]
    if isinstance(content, torch.Tensor):
        return content.dtype, content.shape, content.contiguous().numpy().tobytes()
    return content


@call_parse
def main(
    kills: int = 100,  # how often to kill
    seed: int = 0,  # of the moments
    out: str | None = None,  # a JSON file for the counts
):
    """Kill, resume, compare."""
    rng, phases = random.Random(seed), Counter()
    counts = dict.fromkeys(('kills', 'runs', 'resumes', 'mismatches', 'unreadable'), 0)
    with TemporaryDirectory() as tmp:
        data = _write_images(Path(tmp) / 'images')
        start = perf_counter()
        _run(tmp, 'alone', '--data', data, '--workers', 0).wait()
        whole = perf_counter() - start
        expected = _ending(Path(tmp, 'alone'))
        while counts['kills'] < kills:
            name = f'run{counts["runs"]}'
            run, workers = Path(tmp, name), 2 * (counts['runs'] % 2)
            process = _run(tmp, name, '--data', data, '--workers', workers)
            while counts['kills'] < kills and not _ended(process, rng.uniform(0, LONGEST * whole)):
                counts['kills'] += 1
                phases[_phase(run)] += 1
                counts['unreadable'] += len(_unreadable(run))
                begun = run.exists()
                counts['resumes'] += begun
                process = _run(tmp, name, *(['--resume', run] if begun else ['--data', data, '--workers', workers]))
                print(f'\r{counts["kills"]} kills', end='', file=sys.stderr, flush=True)
            assert process.wait() == 0, f'{name} does not end'
            counts['runs'] += 1
            differences = [key for key, value in _ending(run).items() if value != expected[key]]
            counts['mismatches'] += bool(differences)
            if differences:
                print(f'{name} differs in {differences}')
    report = {**counts, 'phases': dict(phases.most_common()), 'seconds alone': round(whole, 1)}
    print('\n'.join(f'{key}: {value}' for key, value in report.items()))
    if out:
        Path(out).write_text(json.dumps(report, indent=2) + '\n')
    sys.exit(bool(counts['mismatches'] or counts['unreadable']))
