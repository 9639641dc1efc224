"""The environment and the audit."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
OPTIONAL = set(re.findall(r'^\w+ = \["(\w+)>=', (ROOT / 'pyproject.toml').read_text(), flags=re.M)) - {'setuptools'}


def test_conda_environment_uses_requirements_txt():
    env = yaml.safe_load((ROOT / 'environment.yml').read_text())
    assert env['channels'] == ['conda-forge']
    (pip,) = (o for o in env['dependencies'] if isinstance(o, dict))
    assert pip == {'pip': ['-r requirements.txt']}


def test_requirements_contain_the_imported_packages():
    named = set(re.findall(r'^([\w-]+)', (ROOT / 'requirements.txt').read_text(), flags=re.M))
    provided_by = {
        'sklearn': 'scikit-learn',
        'PIL': 'pillow',
        'cv2': 'albumentations',
        'yaml': 'albumentations',
        'numpy': 'torch',
        'scipy': 'scikit-learn',
        'markupsafe': 'jinja2',
    }
    local = {path.stem for path in ROOT.glob('*') if path.suffix == '.py' or (path / '__init__.py').exists()}
    packages = [path.parent for path in ROOT.glob('*/__init__.py')]
    code = [*ROOT.glob('*.py'), *(file for package in packages for file in package.rglob('*.py'))]
    imports = {m for f in code for m in re.findall(r'^(?:from|import) (\w+)', f.read_text(), flags=re.M)}
    stdlib = set(__import__('sys').stdlib_module_names)
    needed = {provided_by.get(m, m) for m in imports - stdlib - local}
    # dependencies of fastai and timm themselves
    assert needed - {'fastcore', 'fastprogress', 'huggingface_hub', 'pillow'} <= named | OPTIONAL


def test_optional_dependencies_are_in_the_dev_requirements():
    named = set(re.findall(r'^([\w-]+)', (ROOT / 'requirements-dev.txt').read_text(), flags=re.M))
    assert {'tensorboard', 'wandb', 'shtab', 'accelerate'} == OPTIONAL <= named


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
def test_audit_reports_findings_and_unchecked_packages(tmp_path, answer, lines):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    (tmp_path / 'pip_audit.py').write_text(f'print({text!r})\nraise SystemExit(1)\n')
    command = [sys.executable, ROOT / '.ci/audit.py']
    env = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == lines
