"""Checks without running loft: layers, clang-tidy, calls that must not compile, outdated lists."""
import glob
import os
import re
import subprocess

from . import make
from .make import BUILD, LOGS
from .result import Result, Test, run_program

CASE = re.compile(r'^\s*#\s*(?:el)?if(?:def)?\b.*\bBREAK_(\w+)')
COMPILERS = {'g++': '64g-highpte-smp-preempt', 'clang++': '64g-highpte-smp-clang'}


def run_script(name, *command, limit=120):
    result = Result(log=f'{LOGS}/{name}.log')
    status = run_program(command, result.log, limit)
    result.check(status == 0, f'{command[0]} ended with status {status}')
    return result


def library(config):
    """The precompiled outside headers (make/flags.mk)."""
    return f'{BUILD}/{config}/library.hpp'


def compiler_command(config):
    """make's compile command for this configuration."""
    run = subprocess.run(make.command('-s', f'print-compiler-{config}'), capture_output=True, text=True, check=True,
                         env=make.environment())
    return run.stdout.split()


def cases_of(path):
    """{case: (first line, last line)} of the #ifdef BREAK_case ... #else or #endif blocks."""
    cases, open_case, depth = {}, None, 0
    with open(path, encoding='utf-8') as file:
        for number, line in enumerate(file, 1):
            if match := CASE.match(line):
                if open_case:
                    raise ValueError(f'{path}:{number}: BREAK_ blocks do not nest')
                open_case, first, depth = match.group(1), number, 0
            elif open_case and re.match(r'\s*#\s*if', line):
                depth += 1
            elif open_case and re.match(r'\s*#\s*(else|endif)', line):
                if depth == 0:
                    cases[open_case] = (first, number)
                    open_case = None
                elif re.match(r'\s*#\s*endif', line):
                    depth -= 1
    return cases


def compile_file(compiler, path):
    """The unchanged file must compile; with each BREAK_ it must not, because of the line in that block."""
    stem = os.path.basename(path).removesuffix('.cpp')
    result = Result(log=f'{LOGS}/compile-{compiler}-{stem}.log')
    config = COMPILERS[compiler]
    command = compiler_command(config) + ['-include', library(config), '-fsyntax-only', path]
    status = run_program(command, result.log, 60)
    if not result.check(status == 0, f'the unchanged {path} does not compile'):
        return result
    cases = cases_of(path)
    result.check(cases, f'{path} has no BREAK_ case')
    for case, (first, last) in cases.items():
        log = f'{LOGS}/compile-{compiler}-{stem}-{case}.log'
        status = run_program(command + [f'-DBREAK_{case}'], log, 60)
        with open(log, encoding='utf-8') as file:
            text = file.read()
        # The compiler's error, or its chain of instantiations, has to point into the block.
        places = [int(line) for line in re.findall(rf'^(?:In file included from )?(?:\./)?{re.escape(path)}:(\d+):', text,
                                                   re.MULTILINE)]
        errors = re.findall(rf'^(?:\./)?{re.escape(path)}:(\d+):\d+: (?:fatal )?error:', text, re.MULTILINE)
        outside = [line for line in errors if not first < int(line) < last]
        result.check(status == 1 and any(first < line < last for line in places) and not outside,
                     f'{path}: BREAK_{case} ' + ('compiles' if status == 0 else f'fails for another reason: {log}'))
    return result


def tests():
    found = [Test('static/layers', lambda: run_script('layers', 'scripts/check-layers')),
             Test('static/format', lambda: run_script('format', 'scripts/check-format')),
             Test('static/docs', lambda: run_script('docs', 'scripts/check-docs')),
             Test('static/self', lambda: run_script('self', 'scripts/test-runner'), (f'{BUILD}/include',)),
             Test('static/mutants', lambda: run_script('mutants', 'scripts/mutants', 'check'), (f'{BUILD}/include',)),
             Test('tidy/kernel', lambda: run_script('tidy', 'scripts/check-tidy', limit=600), (f'{BUILD}/include',), 60)]
    for path in sorted(glob.glob('tests/compile/*.cpp')):
        stem = os.path.basename(path).removesuffix('.cpp')
        for compiler, config in COMPILERS.items():
            found.append(Test(f'compile/{compiler}/{stem}', lambda compiler=compiler, path=path: compile_file(compiler, path),
                              (f'{library(config)}.gch',)))
    return found
