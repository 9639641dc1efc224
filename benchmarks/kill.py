"""Kill small training runs with SIGKILL, resume each until it is finished, and compare the results.

    python benchmarks/kill.py --kills 60 --out results/kill.json

The recipes `plateau` and `speedrun` run with 0 and with 2 workers; each combination gets a quarter of the kills. Two
thirds of the kills aim at training or validation, a sixth at a write in models/, and the others at any moment. A kill
that hits another phase is counted there and repeated. The results must equal those of an uninterrupted run, bit for
bit: best.pth; last.pth and history.csv, except the seconds; mistakes.csv; the test accuracy. Fewer than 12 kills all
go to `speedrun`. Prints the number of kills per phase.
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
# no checkpoint after each batch: kills should hit training, too, not only writes
OPTIONS = ['--epochs', '6', '--bs', '2', '--valid', '0.25', '--checkpoint-minutes', '0.01', '--keep-checkpoints']
RUNS = ('speedrun', 0), ('plateau', 2), ('speedrun', 2), ('plateau', 0)  # recipe and workers
TRAINING, WRITE, ANY = 'training or validation', 'a write in models/', 'any moment'
GOING_ON = 'going on at epoch', 'no checkpoint in', 'nothing is left to train'  # what a resumed run prints first
LONGEST = 0.6  # of a whole run's time: latest kill at any moment, so that few runs end first


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
    """A run of train_fastai.py in its own folder, by one process after another."""

    def __init__(self, tmp: str, name: str, data: Path, recipe: str, workers: int):
        self.folder, self.log = Path(tmp, name), Path(tmp, f'{name}.log')
        self.workers = ['--workers', str(workers)]
        self.options = ['--data', data, '--recipe', recipe, *OPTIONS, '--out', tmp, '--name', name]
        self.start()

    def start(self):
        """Start the run, or resume it if its folder exists."""
        self.resumed, self.stale = self.folder.exists(), self._parts()
        options = ['--resume', self.folder] if self.resumed else self.options
        command = [sys.executable, SCRIPT, *map(str, options), *self.workers]
        with self.log.open('w') as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, 'OMP_NUM_THREADS': '1'})

    def _parts(self) -> set[Path]:
        return {*self.folder.glob('models/.*.part')}

    def phase(self) -> str:
        """The phase of the process, by its folder and its output."""
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
        """Kill it `seconds` after the phase `target` begins; return the phase hit, or None if the run ended first."""
        while target not in (ANY, self.phase()) and self.process.poll() is None:
            sleep(0.002)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
            return None
        self.process.kill()
        self.process.wait()
        return self.phase()


def _targets(kills: int, rng: random.Random) -> list[str]:
    """The phases to hit with this number of kills, in random order."""
    training, write = round(2 / 3 * kills), max(1, round(kills / 6))
    return rng.sample([TRAINING] * training + [WRITE] * write + [ANY] * (kills - training - write), kills)


def _killed(tmp: str, data: Path, recipe: str, workers: int, kills: int, rng: random.Random) -> dict:
    """Kill runs of this recipe and number of workers; count kills per phase, runs and failures."""
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
    kills: int = 60,  # minimum number of kills
    seed: int = 0,  # for the moments of the kills
    out: str | None = None,  # a JSON file for the counts
):
    """Kill runs, resume them and compare the results."""
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
