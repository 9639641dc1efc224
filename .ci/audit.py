"""Print the known vulnerabilities of the installed packages, and how many packages were not checked.

Always exits with 0: people judge the findings, and a machine without network can't check. pip-audit itself says 'No
known vulnerabilities found' even if the service knows none of the packages.
"""

import json
import subprocess
import sys

command = [sys.executable, '-m', 'pip_audit', '--format', 'json', '--progress-spinner', 'off', '--timeout', '15']
try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    packages = json.loads(done.stdout)['dependencies']
except (subprocess.TimeoutExpired, ValueError, KeyError):
    print('audit: NOT CHECKED, the vulnerability service gave no answer')
    sys.exit()
skipped = [package['name'] for package in packages if 'skip_reason' in package]
findings = [(package, found) for package in packages for found in package.get('vulns', ())]
for package, found in findings:
    fixed = ', '.join(found['fix_versions']) or 'no version yet'
    print(f'audit: {package["name"]} {package["version"]}: {found["id"]} (fixed in {fixed})')
print(f'audit: {len(findings)} known vulnerabilities in {len(packages) - len(skipped)} packages')
if skipped:
    some = ', '.join(skipped[:5]) + (', ...' if len(skipped) > 5 else '')
    print(f'audit: NOT CHECKED, since the service does not know them: {len(skipped)} packages ({some})')
