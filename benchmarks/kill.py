"""Kill small training runs with SIGKILL, resume each until it is done, and compare what comes out.

    python benchmarks/kill.py --kills 60 --out results/kill.json

The recipes `plateau` and `speedrun` are run with 0 and with 2 workers, each with a quarter of the kills. Of these two
thirds are to hit training or validation, a sixth a write in models/, and the others any moment. A kill that hits
another phase counts there, and is repeated. All has to come out as of a run left alone, bit for bit: the weights in
best.pth and last.pth, and the rest of last.pth but its seconds; history.csv but its seconds; mistakes.csv; the
test accuracy. Fewer than 12 kills are all of `speedrun`. Prints how many kills hit which phase.
"""

import csv
import os
import random
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import numpy as np
import pandas as pd
from ending import ending, unreadable
from fastcore.script import call_parse
from PIL import Image

SCRIPT = Path(__file__).parents[1] / 'train_fastai.py'
# not a checkpoint after each batch: training is to be hit, too, and not only the writes
OPTIONS = ['--epochs', '6', '--bs', '2', '--valid', '0.25', '--checkpoint-minutes', '0.01', '--keep-checkpoints']
RUNS = ('speedrun', 0), ('plateau', 2), ('speedrun', 2), ('plateau', 0)  # recipe and workers
TRAINING, WRITE, ANY = 'training or validation', 'a write in models/', 'any moment'
GOING_ON = 'going on at epoch', 'no checkpoint in', 'nothing is left to train'  # what a resumed run prints first
LONGEST = 0.6  # of the time that a whole run takes, so that few runs end before they are killed at any moment


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


class Run:
    """train_fastai.py with a folder of its own, in one process after the other."""

    def __init__(self, tmp: str, name: str, data: Path, recipe: str, workers: int):
        self.folder, self.log = Path(tmp, name), Path(tmp, f'{name}.log')
        self.workers = ['--workers', str(workers)]
        self.options = ['--data', data, '--recipe', recipe, *OPTIONS, '--out', tmp, '--name', name]
        self.start()

    def start(self):
        """Begin, or go on where the folder is there."""
        self.resumed, self.stale = self.folder.exists(), self._parts()
        options = ['--resume', self.folder] if self.resumed else self.options
        command = [sys.executable, SCRIPT, *map(str, options), *self.workers]
        with self.log.open('w') as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, 'OMP_NUM_THREADS': '1'})

    def _parts(self) -> set[Path]:
        return {*self.folder.glob('models/.*.part')}

    def phase(self) -> str:
        """What the process is at, as its folder and its output tell."""
        said = self.log.read_text()
        if not self.folder.exists():
            return 'before the run folder'
        if self.resumed and not any(text in said for text in GOING_ON):
            return 'before the training goes on'
        if self._parts() - self.stale:
            return WRITE
        if (self.folder / 'plots/accuracy.png').exists():
            return 'review'
        return TRAINING if [*self.folder.glob('models/last*.pth')] else 'before the first checkpoint'

    def kill(self, target: str, seconds: float) -> str | None:
        """Kill it `seconds` after the phase `target` begins; the phase that was hit, or None where it ends before."""
        while target not in (ANY, self.phase()) and self.process.poll() is None:
            sleep(0.002)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
            return None
        self.process.kill()
        self.process.wait()
        return self.phase()


def _targets(kills: int, rng: random.Random) -> list[str]:
    """What that many kills are to hit, in a random order."""
    training, write = round(2 / 3 * kills), max(1, round(kills / 6))
    return rng.sample([TRAINING] * training + [WRITE] * write + [ANY] * (kills - training - write), kills)


def _killed(tmp: str, data: Path, recipe: str, workers: int, kills: int, rng: random.Random) -> dict:
    """How many kills and runs there were with this recipe and number of workers, and what they did."""
    counts, phases = dict.fromkeys(('runs', 'kills', 'mismatches', 'unreadable'), 0), Counter()
    start, alone = perf_counter(), Run(tmp, f'{recipe}-{workers}-alone', data, recipe, workers)
    assert alone.process.wait() == 0, alone.log.read_text()
    whole, expected = perf_counter() - start, ending(alone.folder)
    trained = sum(float(row['seconds']) for row in csv.DictReader((alone.folder / 'history.csv').open()))
    targets = _targets(kills, rng)
    longest = {TRAINING: 1.5 * trained / kills, WRITE: 0.02, ANY: LONGEST * whole}
    while targets:
        run = Run(tmp, f'{recipe}-{workers}-{counts["runs"]}', data, recipe, workers)
        while targets and (hit := run.kill(targets[-1], rng.uniform(0, longest[targets[-1]]))):
            counts['kills'] += 1
            counts['unreadable'] += len(unreadable(run.folder))
            phases[hit] += 1
            print(f'{recipe}, {workers} workers, kill {counts["kills"]}: {hit}', file=sys.stderr, flush=True)
            if targets[-1] in (hit, ANY):
                targets.pop()
            run.start()
        assert run.process.wait() == 0, run.log.read_text()
        differences = [key for key, value in ending(run.folder).items() if value != expected[key]]
        if differences:
            print(f'{run.folder.name} differs in {differences}')
        counts['runs'] += 1
        counts['mismatches'] += bool(differences)
    return {'recipe': recipe, 'workers': workers, **counts, **phases}


@call_parse
def main(
    kills: int = 60,  # how often to kill, at least
    seed: int = 0,  # of the moments
    out: str | None = None,  # a JSON file for the counts
):
    """Kill, resume, compare."""
    rng, start = random.Random(seed), perf_counter()
    runs = RUNS if kills >= 3 * len(RUNS) else RUNS[:1]
    with TemporaryDirectory() as tmp:
        data = _write_images(Path(tmp) / 'images')
        table = pd.DataFrame([_killed(tmp, data, *which, -(-kills // len(runs)), rng) for which in runs])
    table = table.fillna(0).convert_dtypes()
    print(table.to_string(index=False), f'{(perf_counter() - start) / 60:.0f} minutes', sep='\n')
    if out:
        table.to_json(out, orient='records', indent=2)
    sys.exit(bool(table.mismatches.any() or table.unreadable.any()))
