"""A copy of the tree, in which mutants are built; the tree itself does not change."""
import filecmp
import os
import re
import shutil
import stat
import subprocess

from runner import make

from .machines import Guest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def copy_tree(work, folders_of_objects, texts=None):
    """Copies the current sources. In a reused copy a file is written only if it differs: make compares times, and a product of a
    mutant must not be newer than the restored source. The copy is built in its own `build`, whatever LOFT_BUILD is.
    `texts` has the contents of files that differ from the tree's."""
    def copied(source, target, copy):
        copy(source, target)
        os.chmod(target, os.stat(target).st_mode | stat.S_IWUSR)  # the tree may be read-only

    def copied_object(source, target):
        shutil.copy2(source, target)
        # The files that contain the name of the output folder.
        if make.BUILD != 'build' and (source.endswith('.d') or os.path.basename(source) == 'flags'):
            times = os.stat(target)
            with open(target, encoding='utf-8') as file:
                text = file.read()
            with open(target, 'w', encoding='utf-8') as file:
                file.write(re.sub(r'(?<!\S)' + re.escape(make.BUILD) + '/', 'build/', text))
            os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))

    texts = texts or {}
    fresh = not os.path.isdir(os.path.join(work, 'build'))
    wanted = set()
    for folder, folders, files in os.walk(ROOT):
        here = os.path.relpath(folder, ROOT)
        folders[:] = [name for name in folders if os.path.normpath(os.path.join(here, name)) not in ('build', '.git') and
                      not os.path.exists(os.path.join(folder, name, 'CACHEDIR.TAG'))]  # the mark of scripts/build-folder
        os.makedirs(os.path.join(work, here), exist_ok=True)
        for name in files:
            source, target = os.path.join(folder, name), os.path.join(work, here, name)
            wanted.add(os.path.normpath(target))
            if os.path.normpath(os.path.join(here, name)) in texts:
                continue
            if fresh:
                copied(source, target, shutil.copy2)
            elif not os.path.exists(target) or not filecmp.cmp(source, target, shallow=False):
                copied(source, target, shutil.copy)
    for path, text in texts.items():
        wanted.add(os.path.normpath(os.path.join(work, path)))
        write_changed(os.path.join(work, path), text)
    for folder, folders, files in os.walk(work):
        if folder == work:
            folders[:] = [name for name in folders if name != 'build']
        for path in (os.path.join(folder, name) for name in files):
            if os.path.normpath(path) not in wanted:
                os.unlink(path)
    os.makedirs(os.path.join(work, 'build'), exist_ok=True)
    for folder in folders_of_objects:
        source, target = os.path.join(ROOT, make.BUILD, os.path.basename(folder)), os.path.join(work, folder)
        if fresh and os.path.isdir(source):
            shutil.copytree(source, target, symlinks=True, copy_function=copied_object)


def write_changed(path, text):
    """Writes a file if its content changes. The text is as tree.read() returns it."""
    if os.path.exists(path):
        with open(path, encoding='latin-1', newline='') as file:
            if file.read() == text:
                return
    with open(path, 'w', encoding='latin-1', newline='') as file:
        file.write(text)


def build(work, goal, jobs, *variables):
    goals = [goal, Guest.PROGRAMS] if goal.endswith('.elf') else [goal]
    command = make.command(f'-j{jobs}', 'INSPECT=true', *variables, *goals, build='build')
    done = subprocess.run(command, cwd=work, env=make.environment(), check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, encoding='utf-8', errors='replace')
    return done.returncode == 0, done.stdout


def write_log(work, name, text):
    with open(os.path.join(work, 'build', f'{name}.log'), 'w', encoding='utf-8') as log:
        log.write(text)


class Broken:
    """Context manager: the copy with the mutant and the products that make builds from it; restores both at its end."""

    def __init__(self, work, texts, objects):
        self.texts = {os.path.join(work, path): text for path, text in texts.items()}  # as UTF-8
        self.objects = os.path.join(work, objects)
        self.kept = self.objects + '.kept'
        self.originals = {}

    def __enter__(self):
        shutil.rmtree(self.kept, ignore_errors=True)
        subprocess.run(['cp', '-a', self.objects, self.kept], check=True)
        for path, text in self.texts.items():
            with open(path, encoding='utf-8') as file:
                self.originals[path] = (os.stat(path), file.read())
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text)
        return self

    def __exit__(self, *_):
        for path, (times, original) in self.originals.items():
            with open(path, 'w', encoding='utf-8') as file:
                file.write(original)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        shutil.rmtree(self.objects)
        os.rename(self.kept, self.objects)
