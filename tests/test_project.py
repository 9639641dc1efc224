"""What stands beside the code: environment, Makefile, README."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tiny import write_run

from reopen import load_model

ROOT = Path(__file__).parents[1]
OPTIONAL = set(re.findall(r'^\w+ = \["(\w+)>=', (ROOT / 'pyproject.toml').read_text(), flags=re.M)) - {'setuptools'}


def test_conda_environment_takes_the_same_requirements():
    env = yaml.safe_load((ROOT / 'environment.yml').read_text())
    assert env['channels'] == ['conda-forge']
    (pip,) = (o for o in env['dependencies'] if isinstance(o, dict))
    assert pip == {'pip': ['-r requirements.txt']}


def test_requirements_name_what_the_code_imports():
    named = set(re.findall(r'^([\w-]+)', (ROOT / 'requirements.txt').read_text(), flags=re.M))
    provided_by = {
        'sklearn': 'scikit-learn',
        'PIL': 'pillow',
        'cv2': 'albumentations',
        'numpy': 'torch',
        'scipy': 'scikit-learn',
        'markupsafe': 'jinja2',
    }
    local = {path.stem for path in ROOT.glob('*') if path.suffix == '.py' or (path / '__init__.py').exists()}
    code = [*ROOT.glob('*.py'), *ROOT.glob('data/*.py'), *ROOT.glob('callbacks/*.py'), *ROOT.glob('interpret/*.py')]
    imports = {m for f in code for m in re.findall(r'^(?:from|import) (\w+)', f.read_text(), flags=re.M)}
    stdlib = set(__import__('sys').stdlib_module_names)
    needed = {provided_by.get(m, m) for m in imports - stdlib - local}
    # what fastai itself depends on and re-exports
    assert needed - {'fastcore', 'fastprogress', 'pillow'} <= named | OPTIONAL


def test_what_is_optional_is_tested():
    named = set(re.findall(r'^([\w-]+)', (ROOT / 'requirements-dev.txt').read_text(), flags=re.M))
    assert {'tensorboard', 'wandb', 'shtab', 'accelerate'} == OPTIONAL <= named


def test_readme_commands_exist():
    readme = (ROOT / 'README.md').read_text()
    targets = subprocess.run(['make', 'help'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in re.findall(r'(?:^|`)make (\w+)', readme, flags=re.M):
        assert re.search(rf'^  {target} ', targets, flags=re.M), f'README: make {target}'
    options = ''.join((ROOT / f'{name}.py').read_text() for name in ('train_fastai', 'predict', 'export'))
    for option in re.findall(r'--([a-z][a-z-]+)\b', readme):  # not accelerate's, such as --multi_gpu
        assert re.search(rf'^    {option.replace("-", "_")}: ', options, flags=re.M), f'README: --{option}'
    for file in re.findall(r'\]\(([\w/.-]+)\)', readme):
        assert (ROOT / file).exists(), f'README: {file}'


@pytest.mark.slow
def test_readme_commands_that_use_a_model_run(folder, tmp_path):
    section = re.search(r'## Using the model\n(.*?)\n## ', (ROOT / 'README.md').read_text(), flags=re.S)[1]
    (commands,), (code,) = (re.findall(rf'```{kind}\n(.*?)```', section, flags=re.S) for kind in ('bash', 'python'))
    run = write_run(tmp_path, folder)
    (tmp_path / 'runs').mkdir()
    run.rename(tmp_path / 'runs/NAME')
    (tmp_path / 'path/to').mkdir(parents=True)
    (folder / 'test').rename(tmp_path / 'path/to/folder')
    folder.rename(tmp_path / 'more')
    file = tmp_path / 'photo.jpg'
    Image.new('RGB', (40, 30), 'red').save(file)
    Image.new('RGB', (16, 16), 'blue').save(tmp_path / 'more/x.png')
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    for command in commands.splitlines():
        python, script, *arguments = shlex.split(command)
        assert python == 'python'
        command = [sys.executable, ROOT / script, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, '')
        if '--json' in arguments:
            assert [row['class'] in ('blue', 'green', 'red') for row in json.loads(done.stdout)] == [True] * 12
    assert len([*(tmp_path / 'path/to/pictures').rglob('*.png')]) == 12
    assert (tmp_path / 'runs/NAME/model.onnx').is_file()

    # without fastai
    (tmp_path / 'load.py').write_text(
        f'import sys; sys.modules["fastai"] = None\nimport numpy as np; import torch; from PIL import Image\n'
        f'images = torch.tensor(np.asarray(Image.open("more/x.png"))).permute(2, 0, 1)[None]\n'
        f'{code}\nprint(json.dumps(probabilities[0].tolist()))\n'
    )
    done = subprocess.run([sys.executable, 'load.py'], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = load_model(tmp_path / 'runs/NAME').predict(tmp_path / 'more/x.png')[2].tolist()
    assert json.loads(done.stdout) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ('answer', 'lines'),
    [
        ('no route to host', ['audit: NOT CHECKED, the vulnerability service gave no answer']),
        (
            {'dependencies': [{'name': 'a', 'skip_reason': 'not found'}, {'name': 'b', 'version': '1', 'vulns': []}]},
            [
                'audit: 0 known vulnerabilities in 1 packages',
                'audit: NOT CHECKED, since the service does not know them: 1 packages (a)',
            ],
        ),
        (
            {'dependencies': [{'name': 'b', 'version': '1', 'vulns': [{'id': 'CVE-1', 'fix_versions': ['2', '1.5']}]}]},
            ['audit: b 1: CVE-1 (fixed in 2, 1.5)', 'audit: 1 known vulnerabilities in 1 packages'],
        ),
    ],
    ids=['offline', 'unknown', 'finding'],
)
def test_audit_hides_nothing(tmp_path, answer, lines):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    (tmp_path / 'pip_audit.py').write_text(f'print({text!r})\nraise SystemExit(1)\n')
    command = [sys.executable, ROOT / '.ci/audit.py']
    env = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == lines
