"""An archive of files that a machine of tests/guest/matrix.cfg gets as a boot module, in cpio's format newc.

tests/guest/tree_test.cpp expects these files.
"""
import os
import struct

WORDS = 25_000


def entry(name, mode, data=b''):
    text = name.encode() + b'\0'
    fields = (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(text), 0)
    head = b'070701' + b''.join(b'%08x' % field for field in fields)
    return pad(head + text) + pad(data)


def pad(text):
    return text + bytes(-len(text) % 4)


def create(path):
    words = b''.join(struct.pack('<I', (word * 2654435761 + 1) & 0xffffffff) for word in range(WORDS))
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, 'wb') as file:
        file.write(entry('archive', 0o040755) + entry('archive/words', 0o100644, words) +
                   entry('archive/link', 0o120777, b'../archive/words') + entry('archive/null', 0o020666) +
                   entry('TRAILER!!!', 0) + bytes(512))
