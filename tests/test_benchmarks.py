"""The benchmarks run, and keep existing measurements. Speed itself is not tested."""

from dataclasses import asdict, replace
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pandas as pd
import pytest
import torch
from fastai.torch_core import set_seed
from tiny import tiny_model, write_images

from config.recipes import SPEEDRUN, Recipe
from data.sources import find_images
from train_fastai import fit, get_dls, get_learner

BENCHMARKS = Path(__file__).parents[1] / 'benchmarks'


def script(name):
    spec = spec_from_file_location(name, BENCHMARKS / f'{name}.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr('training.learner.get_model', tiny_model)


def table(out):
    """The rows of the output's Markdown table, without its header."""
    return [line.strip('| ').split(' | ') for line in out.splitlines() if line.startswith('| ')][1:]


def test_seeds_keeps_existing_runs(folder, tmp_path, monkeypatch, capsys):
    seeds, trained = script('seeds'), []

    def counted(learn, **kwargs):
        trained.append((learn.recipe.epochs, learn.path.name))
        return fit(learn, **kwargs)

    monkeypatch.setattr(seeds, 'recipe_for', lambda data, name: replace(SPEEDRUN, bs=4, epochs=2))
    monkeypatch.setattr(seeds, 'fit', counted)
    for n, epochs in (1, [1]), (2, [1, 2]), (2, ()):  # the last call uses the recipe's 2 epochs, which exist
        seeds.main('speedrun', epochs, n, data=str(folder), out=str(tmp_path / 'out'))
    names = [(e, f'speedrun-epochs{e}-seed{seed}') for e, seed in ((1, 0), (2, 0), (1, 1), (2, 1))]
    assert trained == names
    rows = pd.read_csv(tmp_path / 'out/seeds.csv')
    assert list(zip(rows.epochs, rows.seed, strict=True)) == [(1, 0), (2, 0), (1, 1), (2, 1)]
    history = pd.read_csv(tmp_path / 'out' / names[3][1] / 'history.csv')
    assert rows.training_minutes[3] == pytest.approx(history.seconds.sum() / 60, abs=1e-4)
    parts = rows[['loading_minutes', 'training_minutes', 'testing_minutes']].sum(axis=1)
    assert list(rows.all_minutes) == pytest.approx(list(parts), abs=1e-4)
    learn = get_learner(get_dls(folder, replace(SPEEDRUN, bs=4)), initialise=False)
    learn.model.load_state_dict(torch.load(tmp_path / 'out' / names[3][1] / 'models/best.pth', weights_only=True))
    assert rows.test_accuracy[3] == pytest.approx(learn.validate(dl=learn.dls[2])[1], abs=1e-4)
    assert (tmp_path / 'out/seeds.png').stat().st_size > 1000
    printed = table(capsys.readouterr().out)[-2:]
    means = rows.groupby('epochs').test_accuracy.mean()
    assert [row[:3] for row in printed] == [['`speedrun`', '1', '2'], ['`speedrun`', '2', '2']]
    assert [row[3].split()[0] for row in printed] == [f'{mean:.2%}' for mean in means]


def test_ablation_trains_without_each_ingredient_and_keeps_existing_results(tmp_path, monkeypatch, capsys):
    ablation, data, out = script('ablation'), str(write_images(tmp_path / 'images', train=20)), tmp_path / 'out'
    monkeypatch.setitem(ablation.WITHOUT, 'speedrun', {'lookahead': {'lookahead': False}})
    monkeypatch.setitem(ablation.BASES, 'speedrun', recipe := replace(SPEEDRUN, bs=4))
    for seeds in 1, 2:
        ablation.main('speedrun', data, 0.5, 1, seeds, str(out))
    rows = pd.read_csv(out / 'speedrun-fraction0.5-epochs1.csv')
    assert list(zip(rows['without'], rows.seed, strict=True)) == [
        ('nothing', 0), ('lookahead', 0), ('nothing', 1), ('lookahead', 1),
    ]  # fmt: skip
    (every, without) = table(capsys.readouterr().out)[-2:]
    set_seed(1)
    learn = get_learner(get_dls(data, recipe, fraction=0.5, seed=1), path=tmp_path)
    fit(learn, 1)
    others = {*find_images(data).train} - {*learn.dls.train.items}
    right = [learn.predict(file)[0] == file.parent.name for file in others]
    assert (rows.accuracy[2], rows.images[2]) == (pytest.approx(sum(right) / len(right), abs=1e-5), len(others))
    means = rows.groupby('without').accuracy.mean()
    assert every[1].startswith(f'{means["nothing"]:.2%} ± ')
    assert float(without[2].split()[0]) == pytest.approx(100 * (means['nothing'] - means['lookahead']), abs=0.006)


def test_ablation_needs_images_to_evaluate_on(tmp_path, monkeypatch, capsys):
    ablation, data = script('ablation'), str(write_images(tmp_path / 'images'))
    monkeypatch.setitem(ablation.BASES, 'speedrun', replace(SPEEDRUN, bs=4))
    with pytest.raises(SystemExit, match='2'):
        ablation.main('speedrun', data, 1.0, 1, 1, str(tmp_path))
    assert '--fraction 1.0 leaves no unseen images to test on: choose a smaller one' in capsys.readouterr().err


def test_each_ablation_changes_its_recipe():
    ablation = script('ablation')
    for name, cases in ablation.WITHOUT.items():
        for changes in cases.values():
            recipe = replace(ablation.BASES[name], **changes)
            assert recipe != ablation.BASES[name]
            assert Recipe.from_dict(asdict(recipe)) == recipe


def test_step_times_every_variant(capsys):
    script('step').main(bs=4, batches=1, rounds=1)
    *lines, _ = capsys.readouterr().out.splitlines()[-5:]
    assert [line[:35].strip() for line in lines] == ['course project', 'bare loop', 'bare loop, as ours', 'ours']
    assert all(float(line.split()[-1].rstrip('x')) > 0 for line in lines)


def test_host_times_every_loop(monkeypatch, capsys):
    monkeypatch.setattr(torch, 'set_num_threads', lambda n: None)
    script('host').main(bs=4, batches=2, rounds=1)
    rows = table(capsys.readouterr().out)
    assert [row[0] for row in rows] == ['the loader alone', 'bare loop', "fastai's Learner", 'ours']
    assert rows[1][2] == '1.00x'
    assert all(float(row[1]) > 0 and float(row[2].rstrip('x')) > 0 for row in rows)


def test_photos_times_every_loader(monkeypatch, capsys):
    photos = script('photos')
    for owner, name in (photos.os, 'sched_setaffinity'), (torch, 'set_num_threads'), (photos.cv2, 'setNumThreads'):
        monkeypatch.setattr(owner, name, lambda *args: None)
    monkeypatch.setattr(photos, 'keep_freed_memory', lambda: None)
    monkeypatch.setattr(photos.defaults, 'cpus', photos.defaults.cpus)
    monkeypatch.setenv('FASTAI_HOME', 'replaced')
    monkeypatch.setattr(photos, 'SIZES', ((120, 90, 1), (300, 200, 2)))
    photos.main(n=16, bs=4, repeats=1)
    photos.fastai_cfg.cache_clear()
    printed = [line.strip('| ').split(' | ') for line in capsys.readouterr().out.splitlines() if line.startswith('| ')]
    header, *rows = printed
    assert [row for row in rows if row[0] == header[0]] == [header]  # the second table's
    rows = [row for row in rows if row != header]
    assert len(rows) == 18
    assert [row[2] for row in rows if row[0] == photos.PEER] == ['1.00', '1.00']
    assert all(float(number.replace(',', '')) > 0 for row in rows for number in row[1:])


def test_winograd_times_convolutions_and_steps(thresholds_of_avx2, monkeypatch, capsys):
    winograd = script('winograd')
    monkeypatch.setattr(winograd, 'CONVOLUTIONS', ((63, 64, 64, 4), (63, 32, 64, 4)))
    monkeypatch.setattr(winograd, 'STEPS', (('small', lambda: winograd.SpeedNet(10, (64, 64, 64)), 2, 16),))
    winograd.main(rounds=1)
    rows = [row for row in table(capsys.readouterr().out) if row[0] in ('63', 'small')]
    assert [row[1:3] for row in rows] == [['64 to 64', '4'], ['32 to 64', '4'], ['2', '16']]
    assert [row[-1][0] == '(' for row in rows] == [False, True, False]  # 32 channels are too few for Winograd
    assert all(float(row[-1].strip('(x)')) > 0 for row in rows)


def test_lr_rules_tries_each_suggestion(tmp_path, monkeypatch, capsys):
    rules = script('lr_rules')
    monkeypatch.setattr(rules, 'PLATEAU', replace(rules.PLATEAU, bs=4, sweep_steps=30))
    rules.main(data=str(write_images(tmp_path / 'images')), fraction=1.0, epochs=1)
    printed = [row[0] for row in table(capsys.readouterr().out)]
    assert {'valley', 'minimum', 'lowest'} <= {*printed}


def test_start_times_the_parts_of_each_start(folder, monkeypatch, capfd):
    monkeypatch.setenv('FASTAI_HOME', 'replaced')
    start = script('start')
    monkeypatch.setattr(start, 'FIRST_BATCH', 'print({!r})')
    small = {'bs': 4, 'valid': 0.25}
    monkeypatch.setattr(start.loaders, 'get_dls', partial(start.loaders.get_dls, **small))
    start.main(str(folder), firsts=1, laters=1)
    out = capfd.readouterr().out
    assert out.startswith(f'{folder}\n')
    rows = {row[0]: [float(number) for number in row[1:]] for row in table(out)}
    assert [*rows] == [*start.PARTS, 'the rest', 'all']
    for i in range(4):
        assert sum(numbers[i] for numbers in rows.values()) == pytest.approx(2 * rows['all'][i], abs=0.1)
    assert rows['checking, decoding, writing'][0] > 0
    assert rows['checking, decoding, writing'][2:] == [0, 0]
    assert out.splitlines()[-1].startswith('a new process, from its start to its first batch: ')
