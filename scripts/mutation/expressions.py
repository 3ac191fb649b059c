"""The changes of expressions: conditions, operators, numbers, arguments, returned values. Used by operators.Finder."""
import collections
import re

from . import calls, tree
from .tree import span

Edit = collections.namedtuple('Edit', 'begin end text style')
BOUNDS = {'<': '<=', '<=': '<', '>': '>=', '>=': '>'}
OTHER = {'+': '-', '-': '+', '*': '+', '/': '*', '%': '/', '&': '|', '|': '&', '^': '&', '<<': '>>', '>>': '<<',
         '==': '!=', '!=': '==', '+=': '-=', '-=': '+=', '|=': '&=', '&=': '|=', '<<=': '>>=', '>>=': '<<='}
INTEGERS = {'UINT', 'INT', 'ULONG', 'ULONGLONG', 'USHORT', 'UCHAR', 'LONGLONG'}
MACRO = re.compile(r'LOFT_[A-Z_]+\b')
TALK = {'log', 'panic', 'refuse'} # their arguments are texts for people


class Expressions:
    source = ''
    found = ()
    returns_value = True

    def text(self, cursor):
        return self.source[slice(*span(cursor))]

    def add(self, kind, *edits):
        change = (kind, list(edits))
        if change not in self.found and any(self.source[edit.begin:edit.end] != edit.text for edit in edits):
            self.found.append(change)

    def expression(self, kind, cursor, text):
        self.add(kind, Edit(*span(cursor), text, 'expression'))

    def condition(self, cursor):
        if not MACRO.match(self.source, span(cursor)[0]):
            self.expression('negate', cursor, f'!({self.text(cursor)})')

    def on_binary(self, cursor):
        left, right = cursor.get_children()
        self.operator(cursor, left, right, self.source[span(left)[1]:span(right)[0]].strip())

    def operator(self, cursor, left, right, sign):
        one, two = self.text(left), self.text(right)
        if re.search(r'[<>=]$', one) or re.fullmatch(r'[<>=]+', two):
            return  # a comparison by operator<=>: part of the tree has no text of its own
        if sign in ('&&', '||'):
            self.expression('operand', cursor, f'{one} {"||" if sign == "&&" else "&&"} {two}')
            for kept, lost in ((one, two), (two, one)):
                if not tree.CONSTANT.fullmatch(lost):
                    self.expression('operand', cursor, kept)
        elif sign in BOUNDS:
            self.expression('bound', cursor, f'{one} {BOUNDS[sign]} {two}')
            if right.type.get_canonical().kind.name in INTEGERS and not re.fullmatch(r'\d+u?', two):
                self.expression('bound', cursor, f'{one} {sign} ({two}) - 1')
        elif sign in OTHER:
            self.expression('arithmetic', cursor, f'{one} {OTHER[sign]} {two}')

    def on_unary_operator(self, cursor):
        text = self.text(cursor)
        if match := re.match(r'\+\+|--', text) or re.search(r'(\+\+|--)$', text):
            other = '--' if match.group() == '++' else '++'
            self.expression('arithmetic', cursor, text[:match.start()] + other + text[match.end():])
        elif text.startswith('~'):
            self.expression('arithmetic', cursor, text[1:])

    def on_integer_literal(self, cursor):
        text = self.text(cursor)
        if re.match(r'[0-9]', text):
            self.expression('number', cursor, f'({text} + 1)')
            if text.rstrip('u') != '0':
                self.expression('number', cursor, f'({text} - 1)')

    def on_decl_ref_expr(self, cursor):
        if re.fullmatch(r'std::memory_order_(acquire|release|acq_rel|seq_cst)', self.text(cursor)):
            self.expression('order-relax', cursor, 'std::memory_order_relaxed')

    def on_return_stmt(self, cursor):
        for child in cursor.get_children():
            text, value = self.text(child), child.type.get_canonical()
            if text.startswith('{') or MACRO.match(text) or not self.returns_value:
                continue
            if value.spelling.removeprefix('const ') == 'bool':
                self.expression('return', child, f'!({text})')
            elif value.kind.name == 'POINTER' and text != 'nullptr':
                self.expression('return', child, 'nullptr')
            elif value.kind.name in INTEGERS:
                self.expression('return', child, f'({text}) + 1')
            elif value.kind.name == 'RECORD':
                self.expression('return', child, f'std::remove_cvref_t<decltype({text})>{{}}')

    def on_call_expr(self, cursor):
        text, children = self.text(cursor), list(cursor.get_children())
        if cursor.spelling.startswith('operator') and len(children) == 3 and '(' not in self.text(children[1]):
            self.operator(cursor, children[0], children[2], self.text(children[1]))
            return children[0], children[2]
        for kind, change in calls.changes(self, cursor, text):
            self.expression(kind, cursor, change)
        name = calls.callee(text)
        if name in TALK or name.startswith('__builtin'): # some of these need constants
            return ()
        given = [child for child in cursor.get_arguments() if child is not None]
        inside = [child for child in given if span(cursor)[0] < span(child)[0] and span(child)[1] < span(cursor)[1]]
        for one, two in zip(inside, inside[1:]):
            if calls.same_type(one, two) and span(one)[1] < span(two)[0] and name and self.text(one) != self.text(two):
                begin, (b1, e1), (b2, e2) = span(cursor)[0], span(one), span(two)
                between = text[e1 - begin:b2 - begin]
                self.expression('arguments', cursor, text[:b1 - begin] + self.text(two) + between + self.text(one) + text[e2 - begin:])
        return None
