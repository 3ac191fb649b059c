"""Calls make, and names its output folder: LOFT_BUILD in the environment, which make sets for every script."""
import os
import subprocess
import sys

BUILD = os.path.normpath(os.environ.get('LOFT_BUILD') or 'build')
LOGS = f'{BUILD}/logs'


def ready():
    """Creates the folder; if that is impossible, prints the reason and exits."""
    done = subprocess.run(['scripts/build-folder'], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    os.makedirs(LOGS, exist_ok=True)


def command(*words, build=BUILD):
    return ['make', f'BUILD={build}', *words]


def environment():
    """Goals determine all options, so a make that is called here must not inherit the options of a calling make."""
    return {key: value for key, value in os.environ.items() if key not in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL')}
