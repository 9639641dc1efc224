"""README.md, docs/ and results/: their commands run, their links work, and they list every option."""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tiny import write_images, write_run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
LINKED = [*PAGES, *sorted(ROOT.glob('C*.md')), *sorted((ROOT / 'results').glob('*.md'))]
QUICK = '--epochs 1 --bs 6 --lr 0.01'  # training takes seconds


def block(page: str, kind: str) -> str:
    """The only code block of this kind on a page."""
    (code,) = re.findall(rf'^```{kind}\n(.*?)^```', (ROOT / page).read_text(), flags=re.S | re.M)
    return code


def commands(page: Path) -> list[str]:
    """The lines of a page's bash blocks, then the inline Python commands of its text."""
    text = page.read_text()
    lines = [line for code in re.findall(r'^```bash\n(.*?)^```', text, flags=re.S | re.M) for line in code.splitlines()]
    lines += re.findall(r'`(python \w+\.py [^`]*)`', text)
    return [re.sub(r'\s+# .*', '', line).removeprefix('.venv/bin/') for line in lines]


def as_run(line: str) -> str:
    """The documented command with options for a quick test: training takes one epoch of tiny images."""
    if 'train_fastai.py' not in line or re.search('--(help|resume|review) ', f'{line} '):
        return line
    line = re.sub(' --(data digits|epochs [0-9]+|name NAME)', '', line)
    if not re.search('--(data|config) ', line):
        line = line.replace('.py', '.py --data path/to/images')
    return f'{line} {QUICK}'


ALL = [(page.name, line) for page in PAGES for line in commands(page)]
PYTHON = dict.fromkeys(as_run(line) for page, line in ALL if page != 'using-a-model.md' and line.startswith('python '))


def anchors(page: Path) -> set[str]:
    """GitHub's anchors for the page's headings."""
    headings = re.findall(r'^#+ (.+)$', page.read_text(), flags=re.M)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def test_readme_is_short():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 120


@pytest.mark.parametrize('page', PAGES[1:], ids=lambda page: page.stem)
def test_a_page_begins_with_an_example(page):
    title, empty, first, *_ = page.read_text().splitlines()
    assert (title[:2], empty, first) == ('# ', '', '```bash')
    assert f'docs/{page.name}' in (ROOT / 'README.md').read_text()


@pytest.mark.parametrize('page', LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_are_not_broken(page):
    text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.S | re.M)
    broken = []
    for link in re.findall(r'\]\((?!https?:)([^)]+)\)', text):
        path, _, anchor = link.partition('#')
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.fixture
def python(tmp_path, monkeypatch, handlers, capsys):
    """Runs `python SCRIPT ...` in this process, where torch and fastai are already imported."""
    monkeypatch.chdir(tmp_path)

    def run_here(line: str) -> tuple[int, str, str]:
        _, script, *arguments = shlex.split(line)
        monkeypatch.setattr(sys, 'argv', [script, *arguments])
        code = 0
        try:
            runpy.run_path(str(ROOT / script), run_name='__main__')
        except SystemExit as e:
            code = e.code or 0
        return code, *capsys.readouterr()

    return run_here


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> Path:
    """The runs folder with a finished run; the first command that needs it creates it for the others."""
    return tmp_path_factory.mktemp('finished') / 'runs'


@pytest.mark.parametrize('line', PYTHON, ids=lambda line: line.removeprefix('python ').removesuffix(QUICK))
@pytest.mark.slow
def test_a_documented_command_runs(line, run, finished, tmp_path, python):
    (tmp_path / 'path/to').mkdir(parents=True)
    images = write_images(tmp_path / 'path/to/images', train=10, test=1)
    with tarfile.open(tmp_path / 'strangers.tgz', 'w:gz') as archive:
        archive.add(images, 'images')
    Image.new('RGB', (16, 16), 'blue').save(tmp_path / 'photo.jpg')
    (tmp_path / 'verdicts.csv').write_text('file,actual,verdict,right_class\n')
    if re.search('--(config|resume|review) ', line):
        if not finished.exists():
            code, _, err = python(f'python train_fastai.py --data path/to/images --out {finished} --name NAME {QUICK}')
            assert code == 0, err
        shutil.copytree(finished, tmp_path / 'runs', dirs_exist_ok=True)
    elif 'predict.py' in line:
        run.rename(tmp_path / 'runs/NAME')
    if '--resume' in line:  # a run that was stopped at once
        for entry in (tmp_path / 'runs/NAME').iterdir():
            if entry.name != 'config.json':
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    code, _, err = python(line)
    assert code == 0, err


def test_every_command_is_run_by_a_test_or_by_ci():
    ci = (ROOT / '.ci/run').read_text().splitlines()
    extras = set(re.search(r"pip install .*'\.\[(.*)\]'", '\n'.join(ci))[1].split(','))
    for page, line in ALL:
        if line.startswith(('python ', 'shtab ')):
            continue  # run by other tests of this file
        if page == 'several-devices.md' and line.startswith('accelerate launch '):
            continue  # run by test_launch.py
        if extra := re.fullmatch(r"pip install -e '\.\[(\w+)\]'", line):
            assert extra[1] in extras
        else:
            assert any(o == line or o.startswith(f'{line} ') for o in ci), f'{page}: {line}'


@pytest.mark.slow
def test_the_command_for_completion_works(tmp_path):
    (line,) = (line for _, line in ALL if line.startswith('shtab '))
    env = {**os.environ, 'HOME': str(tmp_path), 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}
    subprocess.run(['bash', '-c', line], cwd=ROOT, env=env, check=True)
    script = (tmp_path / '.train_fastai.bash').read_text()
    assert '--checkpoint-minutes' in script
    assert (tmp_path / '.bashrc').read_text() == f'source {tmp_path}/.train_fastai.bash\n'.replace(str(tmp_path), '~')


def test_the_options_page_lists_every_option(python):
    _, out, _ = python('python train_fastai.py --help')
    offered = set(re.findall(r'^ +(?:-\w, )?--([a-z-]+)', out, flags=re.M)) - {'help', 'version'}
    rows = re.findall(r'^\| (`--.*?) \|', (ROOT / 'docs/options.md').read_text(), flags=re.M)
    assert {name for row in rows for name in re.findall('--([a-z-]+)', row)} == offered


def test_make_targets_exist():
    targets = subprocess.run(['make', 'help'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for page in LINKED:
        for target in re.findall(r'(?:^|`)make (\w+)', page.read_text(), flags=re.M):
            assert re.search(rf'^  {target} ', targets, flags=re.M), f'{page.name}: make {target}'


@pytest.mark.slow
def test_commands_and_code_in_using_a_model_work(folder, tmp_path, python):
    write_run(tmp_path / 'runs', folder).rename(tmp_path / 'runs/NAME')
    (tmp_path / 'path/to').mkdir(parents=True)
    (folder / 'test').rename(tmp_path / 'path/to/folder')
    folder.rename(tmp_path / 'more')
    Image.new('RGB', (40, 30), 'red').save(tmp_path / 'photo.jpg')
    Image.new('RGB', (16, 16), 'blue').save(tmp_path / 'more/x.png')
    for line in block('docs/using-a-model.md', 'bash').splitlines():
        code, out, err = python(line)
        assert (code, err) == (0, ''), line
        if '--json' in line:
            assert [row['class'] in ('blue', 'green', 'red') for row in json.loads(out)] == [True] * 12
    assert len([*(tmp_path / 'path/to/pictures').rglob('*.png')]) == 12
    assert (tmp_path / 'runs/NAME/model.onnx').is_file()

    # without fastai
    (tmp_path / 'load.py').write_text(
        f'import sys; sys.modules["fastai"] = None\nimport numpy as np; import torch; from PIL import Image\n'
        f'images = torch.tensor(np.asarray(Image.open("more/x.png"))).permute(2, 0, 1)[None]\n'
        f'{block("docs/using-a-model.md", "python")}\nprint(json.dumps(probabilities[0].tolist()))\n'
    )
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, 'load.py'], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (expected,) = json.loads(python('python predict.py runs/NAME more/x.png --json')[1])
    assert json.loads(done.stdout) == pytest.approx([*expected['probabilities'].values()], abs=1e-4)


def test_ci_runs_the_script_and_ruff_runs_before_a_commit():
    workflow = yaml.safe_load((ROOT / '.github/workflows/ci.yml').read_text())
    steps = [step for job in workflow['jobs'].values() for step in job['steps']]
    assert 'bash .ci/run' in [step.get('run') for step in steps]
    (hooks,) = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())['repos']
    assert [hook['id'] for hook in hooks['hooks']] == ['ruff-check', 'ruff-format']
