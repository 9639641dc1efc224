"""That the benchmarks run, and keep what they have measured. Speed itself is no test's business."""

import json
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pandas as pd
import pytest
from tiny import tiny_model, write_images

BENCHMARKS = Path(__file__).parents[1] / 'benchmarks'


def script(name):
    spec = spec_from_file_location(name, BENCHMARKS / f'{name}.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr('learner.get_model', tiny_model)


def table(out):
    """The rows of the Markdown table that ends an output, without its head."""
    return [line.strip('| ').split(' | ') for line in out.splitlines() if line.startswith('| ')][1:]


def test_seeds_keeps_the_runs_that_are_there(tmp_path, monkeypatch, capsys):
    seeds, commands = script('seeds'), []

    def train(command, check):
        commands.append(command[2:])
        options = dict(zip(command[2::2], command[3::2], strict=True))
        folder = Path(options['--out']) / options['--name']
        folder.mkdir()
        summary = {'test_accuracy': 0.5 + int(options['--seed']) / 10, 'seconds': 60.0}
        (folder / 'summary.json').write_text(json.dumps(summary))
        (folder / 'report.html').touch()

    monkeypatch.setattr(seeds.subprocess, 'run', train)
    for n, epochs in (1, [3]), (2, [3, 6]):
        seeds.main('speedrun', epochs, n, data='images', out=str(tmp_path))
    assert [command[-5:] for command in commands] == [
        [str(seed), '--out', str(tmp_path), '--name', f'speedrun-epochs{epochs}-seed{seed}']
        for epochs, seed in ((3, 0), (6, 0), (3, 1), (6, 1))
    ]
    rows = pd.read_csv(tmp_path / 'seeds.csv')
    assert list(rows.test_accuracy) == [0.5, 0.5, 0.6, 0.6]
    assert list(rows.training_minutes) == [1.0] * 4
    assert (tmp_path / 'seeds.png').stat().st_size > 1000
    told = table(capsys.readouterr().out)[-2:]
    assert [row[:4] for row in told] == [['`speedrun`', epochs, '2', '55.00% ± 7.07%'] for epochs in ('3', '6')]


def test_ablation_trains_without_each_ingredient_and_keeps_what_it_has(tmp_path, monkeypatch, capsys):
    ablation, data, out = script('ablation'), str(write_images(tmp_path / 'images', train=20)), tmp_path / 'out'
    monkeypatch.setitem(ablation.WITHOUT, 'speedrun', {'lookahead': {'lookahead': False}})
    for seeds in 1, 2:
        ablation.main('speedrun', data, 1.0, 1, seeds, str(out))
    rows = pd.read_csv(out / 'speedrun.csv')
    assert list(zip(rows['without'], rows.seed, strict=True)) == [
        ('nothing', 0), ('lookahead', 0), ('nothing', 1), ('lookahead', 1),
    ]  # fmt: skip
    (every, without) = table(capsys.readouterr().out)[-2:]
    means = rows.groupby('without').valid_accuracy.mean()
    assert every[1].startswith(f'{means["nothing"]:.2%} ± ')
    assert without[2] == f'{100 * (means["nothing"] - means["lookahead"]):+.2f} points'


def test_step_times_all_ways(capsys):
    script('step').main(bs=4, batches=1, rounds=1)
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert [line[:25].strip() for line in lines[:3]] == ['course project', 'bare loop', 'ours']
    assert all(float(line.split()[-1].rstrip('x')) > 0 for line in lines[:3])


def test_lr_rules_tries_each_suggestion(tmp_path, monkeypatch, capsys):
    rules = script('lr_rules')
    monkeypatch.setattr(rules, 'PLATEAU', replace(rules.PLATEAU, bs=4, sweep_steps=30))
    rules.main(data=str(write_images(tmp_path / 'images')), fraction=1.0, epochs=1)
    told = [row[0] for row in table(capsys.readouterr().out)]
    assert {'valley', 'minimum', 'lowest'} <= {*told}
