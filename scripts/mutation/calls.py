"""What the operators know about loft's functions: which flush, lock, count references, or order memory operations."""
import re

from .tree import span

FLUSH = {'tlb_flush_local_page', 'tlb_flush_local_non_global', 'tlb_leave_idle', 'invlpg', 'flush_all', 'flush_non_global', 'flush',
         'add_debt', 'note_debt', 'flush_lazy', 'vmap_flush', 'write_cr3', 'write_cr4', 'load_root'}
LOCK = {'lock', 'unlock', 'irq_save', 'irq_restore', 'irq_off', 'preempt_disable', 'preempt_enable', 'pagefault_disable',
        'pagefault_enable', 'disable_interrupts', 'enable_interrupts', 'park', 'unpark', 'wake_one', 'wake_all', 'wake', 'leave',
        'enter', 'migrate_disable', 'migrate_enable', 'interrupt_cpu', 'hand_over', 'sleep'}
REFERENCE = {'get_page', 'put_page', 'free_page', 'free_pages', 'free_after', 'put_after', 'free_table_after'}
# References only as a member function without arguments: others have the same names.
COUNTED = {'get', 'put', 'take', 'release'}
# Memory operations whose order another CPU, the page walker or an interrupt can see.
ORDERED = re.compile(r'(\.|->)(store|exchange|compare_exchange|fetch_\w+|add|flush|free_after|put_after|add_debt)\b|'
                     r'\b(pte_\w+|tlb_\w+|invlpg|interrupt_cpu|unpark|lock|unlock|write_cr\d|free_page\w*|irq_\w+|preempt_\w+|'
                     r'take_entry|note_debt|half\[\d\] =|owner_\.)')
UNORDERED = re.compile(r'stats\.|\bpanic\(|\blog\(') # statistics, and messages
ATOMIC = re.compile(r'^(?P<object>.+?)(?:\.|->)(?P<name>exchange|compare_exchange(?:_strong)?|fetch_(?:add|sub|or|and))\(')
SIGNS = {'add': '+', 'sub': '-', 'or': '|', 'and': '&'}
WRITTEN = re.compile(r'^(?:\+\+|--)?([\w.\->\[\]]*?\b(\w+)(?:\[[^=]*\])?)\s*(?:[-+|&]?=(?!=)|\+\+|--|$)')
WORD = re.compile(r'\b[A-Za-z_]\w*')


def callee(text):
    """The name of the function that the text of a call calls."""
    match = re.match(r'(?:\(void\)\s*)?[^(]*?([A-Za-z_]\w*)(?:<[^()]*>)?\(', text)
    return match[1] if match else ''


def calls_itself(text):
    """Not an operand of something larger: the text is one call."""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign == '(') - (sign == ')')
        if sign == ')' and depth == 0 and place < len(text) - 1:
            return text[place + 1] in '.-' and calls_itself(text[place + 1:])
    return text.endswith(')')


def last_callee(text):
    """The outermost call of `a(x).b(y)`: b."""
    names = re.findall(r'([A-Za-z_]\w*)(?:<[^()]*>)?\((?=[^()]*(?:\([^()]*(?:\([^()]*\)[^()]*)*\)[^()]*)*\)$)', text)
    return names[0] if names else callee(text)


def is_batch_add(cursor, name):
    return name == 'add' and any(child.kind.name == 'MEMBER_REF_EXPR' and child.referenced is not None and
                                 child.referenced.semantic_parent is not None and
                                 child.referenced.semantic_parent.spelling == 'TlbBatch' for child in cursor.get_children())


def kind_of(cursor, text):
    """'flush', 'lock' or 'ref' if the statement is such a call; else ''."""
    text = re.sub(r'^\(void\)\s*', '', text)
    if not calls_itself(text):
        return ''
    name = last_callee(text)
    if name in FLUSH or is_batch_add(cursor, name):
        return 'flush'
    if name in LOCK:
        return 'lock'
    if name in REFERENCE or (name in COUNTED and text.endswith('()')):
        return 'ref'
    return ''


def arguments(finder, cursor):
    return [finder.text(child) for child in cursor.get_arguments() if child is not None and span(child)[0] > span(cursor)[0]]


def changes(finder, cursor, text):
    """(kind, new text) of a call that is an expression."""
    if not calls_itself(text):
        return
    name, given = last_callee(text), arguments(finder, cursor)
    boolean = cursor.type.spelling == 'bool'
    if name in COUNTED and text.endswith('()') and boolean:
        yield 'ref-double', f'({text}, {text})'
        yield 'ref-drop', 'false'
        yield 'ref-drop', 'true'
    elif name == 'irq_save':
        yield 'lock-drop', '0u'
    elif name == 'with_lock' and len(given) == 2:
        yield 'lock-drop', f'({given[1]})()'
    elif name in ('pte_take', 'pte_take_low', 'pte_exchange') and given:
        read, clear = {'pte_take': ('pte_read', 'pte_clear'), 'pte_take_low': ('pte_low', 'pte_clear_low'),
                       'pte_exchange': ('pte_read', 'pte_set')}[name]
        value = f', {given[1]}' if name == 'pte_exchange' else ''
        yield 'atomic-split', (f'[&](hal::PteCell* the_cell) {{ const auto was = hal::{read}(the_cell); '
                               f'hal::{clear}(the_cell{value}); return was; }}({given[0]})')
    elif match := ATOMIC.match(text):
        yield from split(match['object'], match['name'].removesuffix('_strong'), given)


def split(what, name, given):
    """An atomic step as a load and a store."""
    head = f'[&](auto& the_word) {{ auto was = the_word.load(); '
    if name == 'exchange' and given:
        yield 'atomic-split', f'{head}the_word.store({given[0]}); return was; }}({what})'
    elif name == 'compare_exchange' and len(given) >= 2:
        yield 'atomic-split', (f'{head}if (was != {given[0]}) {{ {given[0]} = was; return false; }} the_word.store({given[1]}); '
                               f'return true; }}({what})')
    elif name.startswith('fetch_') and given:
        yield 'atomic-split', (f'{head}the_word.store(static_cast<decltype(was)>(was {SIGNS[name[6:]]} ({given[0]}))); '
                               f'return was; }}({what})')


def same_type(one, two):
    def plain(cursor):
        return cursor.type.get_canonical().spelling.replace('const ', '').rstrip(' &')
    return plain(one) == plain(two) and '<dependent' not in plain(one)


def depends(one, two):
    """True if one of two statements assigns a variable that the other one uses."""
    for this, other in ((one, two), (two, one)):
        match = WRITTEN.match(this)
        if match and match[2] in WORD.findall(other):
            return True
    return False
