"""The kinds of generated mutants: what each changes in the syntax tree of a function.

A change is a list of edits of the text. An edit replaces a part by `text`; its style says what the part is, because all mutants
of a file are also compiled together, each behind a switch (switched.py):
    expression  an expression, and the text is one of the same type
    statement   a statement with its semicolon, and the text is statements
    guard       the declaration of a guard; the text is empty
"""
import re

from . import calls, tree
from .expressions import MACRO, Edit, Expressions
from .tree import span

# kind: (class, what is changed). At least one test has to notice every mutant of the classes before `logic`; of logic, a sample.
KINDS = {
    'flush-drop': ('flush', 'a flush, a debt or an entry of a batch is left out'),
    'guard-drop': ('lock', 'a guard is left out'),
    'lock-drop': ('lock', 'a call that locks, unlocks, disables, enables, sleeps or wakes is left out'),
    'atomic-split': ('lock', 'an atomic step becomes a load and a store'),
    'ref-drop': ('reference', 'a reference, a page or a credit is not taken or not given back'),
    'ref-double': ('reference', 'it is taken or given back twice'),
    'barrier-drop': ('order', 'a barrier is left out'),
    'order-relax': ('order', 'a memory order becomes relaxed'),
    'order-swap': ('order', 'two adjacent statements with memory operations change places'),
    'drop': ('logic', 'another statement is left out'),
    'swap': ('logic', 'two adjacent statements of which one changes what the other uses change places'),
    'negate': ('logic', 'a condition is negated'),
    'operand': ('logic', 'an operand of && or || is left out, or one becomes the other'),
    'bound': ('logic', 'a comparison includes its bound, or no longer does, or the bound is one less'),
    'number': ('logic', 'a number is one more or one less'),
    'arithmetic': ('logic', 'an operator becomes another one'),
    'return': ('logic', 'another value is returned'),
    'arguments': ('logic', 'two adjacent arguments of the same type change places'),
}
CLASSES = tuple(dict.fromkeys(kind[0] for kind in KINDS.values()))

LOOPS = {'FOR_STMT', 'WHILE_STMT', 'CXX_FOR_RANGE_STMT'}
# Statements that are not left out. A switch would jump past the test for the mutant, to the label of a case.
STAYS = {'DECL_STMT', 'DO_STMT', 'NULL_STMT', 'CASE_STMT', 'DEFAULT_STMT'}
BINARY = {'BINARY_OPERATOR', 'COMPOUND_ASSIGNMENT_OPERATOR'}
BARRIER = re.compile(r'(hal::)?(detail::)?compiler_barrier\(\)|asm volatile\("" ::: "memory"\)')


class Finder(Expressions):
    """The changes of one function: (kind, edits), in the order of the tree."""

    def __init__(self, function):
        self.source = function.source
        # A changed value is no object to refer to.
        self.returns_value = function.cursor.result_type.kind.name != 'LVALUEREFERENCE'
        self.found = []
        for child in function.cursor.get_children():
            if child.kind.name not in ('PARM_DECL', 'TEMPLATE_TYPE_PARAMETER', 'TEMPLATE_NON_TYPE_PARAMETER'):
                self.visit(child)

    # ---------------------------------------------------------------------------------------------------- the walk

    def visit(self, cursor):
        begin, end = span(cursor)
        if begin == end or cursor.kind.name == 'STATIC_ASSERT' or MACRO.match(self.source, begin):
            return
        kind = cursor.kind.name
        handler = getattr(self, f'on_{kind.lower()}', None)
        if kind in LOOPS:
            handler = self.on_loop
        elif kind in BINARY:
            handler = self.on_binary
        children = handler(cursor) if handler else None
        for child in cursor.get_children() if children is None else children:
            self.visit(child)

    def on_compound_stmt(self, cursor):
        self.statements(list(cursor.get_children()))

    def on_case_stmt(self, cursor):
        *_, body = cursor.get_children()
        self.statements([body])
        return [body]

    on_default_stmt = on_case_stmt

    def on_if_stmt(self, cursor):
        children = list(cursor.get_children())
        constexpr = re.match(r'if\s+constexpr\s*\(', self.text(cursor))
        declared = [child for child in children if child.kind.name in ('DECL_STMT', 'VAR_DECL')]
        rest = children[len(declared):]
        condition, *branches = rest
        if not constexpr:
            if not any(child.kind.name == 'VAR_DECL' for child in declared):
                self.condition(condition)
            self.bodies(branches)
            return children
        value = tree.constant(self.text(condition))
        if value is not None:
            branches = branches[:1] if value else branches[1:]
        self.bodies(branches)
        return branches

    def is_left_out(self, cursor):
        """An `if constexpr` without `else` whose branch CONFIG leaves out."""
        if cursor.kind.name != 'IF_STMT' or not re.match(r'if\s+constexpr\s*\(', self.text(cursor)):
            return False
        condition, *branches = cursor.get_children()
        return len(branches) == 1 and tree.constant(self.text(condition)) is False

    def on_loop(self, cursor):
        children = list(cursor.get_children())
        self.bodies(children[-1:])
        for child in children[:-1]:
            if cursor.kind.name != 'CXX_FOR_RANGE_STMT' and child.type.spelling == 'bool' and child.kind.is_expression():
                self.condition(child)
        return None

    def on_do_stmt(self, cursor):
        self.condition(list(cursor.get_children())[-1])

    def on_conditional_operator(self, cursor):
        self.condition(next(iter(cursor.get_children())))

    # ------------------------------------------------------------------------------------------------- statements

    def bodies(self, branches):
        for branch in branches:
            if branch.kind.name not in ('COMPOUND_STMT', 'IF_STMT'):
                self.statements([branch])

    def statement_span(self, cursor):
        """With the semicolon; None if the text after it is something else."""
        begin, end = span(cursor)
        match = re.compile(r'\s*;').match(self.source, end)
        return (begin, match.end()) if match and not MACRO.match(self.source, begin) else None

    def statements(self, cursors):
        before = None
        for cursor in cursors:
            place = self.statement_span(cursor)
            kind, text = cursor.kind.name, self.text(cursor)
            if kind == 'DECL_STMT':
                self.declaration(cursor, text)
            if place is None or kind in STAYS or (kind == 'RETURN_STMT' and text != 'return'):
                before = None
                continue
            if BARRIER.fullmatch(text):
                self.add('barrier-drop', Edit(*place, ';', 'statement'))
                continue  # the statements on both sides of a barrier count as adjacent
            if text.startswith('asm'):
                self.assembly(place, text)
                before = None
                continue
            which = calls.kind_of(cursor, text)
            if calls.callee(text) != 'log' and not self.is_left_out(cursor):
                self.add(f'{which}-drop' if which else 'drop', Edit(*place, ';', 'statement'))
            if which == 'ref':
                self.add('ref-double', Edit(*place, f'{text}; {text};', 'statement'))
            if kind in ('BREAK_STMT', 'CONTINUE_STMT', 'RETURN_STMT'):
                before = None
                continue
            if before:
                self.neighbours(before, (place, text))
            before = (place, text)

    def neighbours(self, first, second):
        (place, one), (after, two) = first, second
        if all(calls.ORDERED.search(text) and not calls.UNORDERED.search(text) for text in (one, two)):
            kind = 'order-swap'
        elif calls.depends(one, two):
            kind = 'swap'
        else:
            return
        self.add(kind, Edit(*place, f'{two}; {one};', 'statement'), Edit(*after, ';', 'statement'))

    def declaration(self, cursor, text):
        if re.match(r'(const\s+)?(\w+::)*\w*Guard\s+\w+\{.*\};?$', text, re.DOTALL):
            self.add('guard-drop', Edit(*span(cursor), '', 'guard'))

    def assembly(self, place, text):
        if 'lock ' in text:
            self.add('atomic-split', Edit(*place, text.replace('lock ', '', 1) + ';', 'statement'))
        if '"cli"' in text or '"sti"' in text:
            self.add('lock-drop', Edit(*place, ';', 'statement'))
        elif 'invlpg' in text:
            self.add('flush-drop', Edit(*place, ';', 'statement'))
