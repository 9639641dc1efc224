"""Test accuracy against minutes: run train_fastai.py for each number of epochs and each seed, one after another.

    python benchmarks/seeds.py --recipe speedrun --epochs 10 20 --seeds 3
    python benchmarks/seeds.py --recipe plateau --epochs 50 --seeds 5

Started again, it keeps the runs that are finished and goes on with the one that was stopped. Writes a row a run to
seeds.csv in `out`, prints means and standard deviations as a Markdown table, and plots the accuracies over the minutes
that the whole command took: checking and decoding the images, training, test, pictures and the review page.
"""

import json
import subprocess
import sys
from os.path import expanduser
from pathlib import Path
from time import perf_counter
from typing import Annotated

sys.path.insert(0, str(Path(__file__).parents[1]))

import pandas as pd
from fastcore.script import call_parse
from matplotlib.ticker import PercentFormatter

from atomic import replacing
from conclusion import COURSE_PROJECT
from interpret.figures import new_figure, save_figure

SCRIPT = Path(__file__).parents[1] / 'train_fastai.py'
COLUMNS = 'name', 'recipe', 'epochs', 'seed', 'test_accuracy', 'training_minutes', 'minutes'


def _run(out: Path, name: str, options: list) -> float | None:
    """Run it, or what is left of it; the minutes of the whole command, None where it was not run in one go."""
    run, start = out / name, perf_counter()
    new = not run.exists()
    if not new and (run / 'report.html').exists():
        return None
    command = [*options, '--out', out, '--name', name] if new else ['--resume', run]
    subprocess.run([sys.executable, SCRIPT, *map(str, command)], check=True)
    return (perf_counter() - start) / 60 if new else None


def _plot(table: pd.DataFrame, file: Path) -> None:
    fig, axs = new_figure(figsize=(7, 4))
    for (recipe, epochs), runs in table.groupby(['recipe', 'epochs']):
        axs[0, 0].plot(runs.minutes, runs.test_accuracy, 'o', markersize=5, label=f'{recipe}, {epochs} epochs')
    course = COURSE_PROJECT['test_accuracy']
    axs[0, 0].axhline(course, color='#666666', linestyle=':', label='course project, original images, 29 min on a GPU')
    axs[0, 0].set(xlabel='minutes', ylabel='test accuracy', xlim=(0, None))
    axs[0, 0].yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axs[0, 0].legend(loc='lower right')
    save_figure(fig, file)


@call_parse
def main(
    recipe: str = 'speedrun',  # what --recipe of train_fastai.py takes
    epochs: Annotated[int, {'nargs': '+'}] = (10,),  # one or more numbers of epochs
    seeds: int = 3,  # 0, 1, ...: so many runs of each
    data: str = 'cifar10',  # what --data takes
    out: str = 'runs/seeds',  # folder of the runs
):
    """Measure test accuracy against minutes, over seeds."""
    folder = Path(expanduser(out))
    file = folder / 'seeds.csv'
    rows = pd.read_csv(file).to_dict('records') if file.exists() else []
    for seed in range(seeds):
        for n in epochs:
            name = f'{recipe}-epochs{n}-seed{seed}'
            if name in [row['name'] for row in rows]:
                continue
            minutes = _run(folder, name, ['--data', data, '--recipe', recipe, '--epochs', n, '--seed', seed])
            summary = json.loads((folder / name / 'summary.json').read_text(encoding='utf-8'))
            accuracy, training = summary['test_accuracy'], summary['seconds'] / 60
            rows.append(dict(zip(COLUMNS, (name, recipe, n, seed, accuracy, training, minutes), strict=True)))
            with replacing(file) as part:
                pd.DataFrame(rows).round(5).to_csv(part, index=False)
    table = pd.DataFrame(rows)
    _plot(table, folder / 'seeds.png')
    print('| recipe | epochs | seeds | test accuracy | training | whole command |\n|---|---|---|---|---|---|')
    for (name, n), runs in table.groupby(['recipe', 'epochs']):
        mean, deviation = runs.test_accuracy.mean(), runs.test_accuracy.std()
        times = f'{runs.training_minutes.mean():.1f} min | {runs.minutes.mean():.1f} min'
        print(f'| `{name}` | {n} | {len(runs)} | {mean:.2%} ± {deviation:.2%} | {times} |')
