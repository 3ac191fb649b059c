"""Calls of make, and the build folder: LOFT_BUILD in the environment, which make sets for all programs that it calls."""
import os
import subprocess
import sys

BUILD = os.path.normpath(os.environ.get('LOFT_BUILD') or 'build')
LOGS = f'{BUILD}/logs'


def ready():
    """Makes the build folder. If that fails, scripts/build-folder prints the reason, and this program ends."""
    done = subprocess.run(['scripts/build-folder'], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    os.makedirs(LOGS, exist_ok=True)


def command(*words, build=BUILD):
    return ['make', f'BUILD={build}', *words]


def environment():
    """The goals determine all options, so variables of a calling make must not be inherited."""
    return {key: value for key, value in os.environ.items() if key not in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL')}
