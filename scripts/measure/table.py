"""Columns of text."""


def show(header, rows):
    """Prints rows of strings below the header, columns aligned: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, ['-' * width for width in widths], *rows]:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print('  '.join(cells).rstrip())
    print(flush=True)


def number(value, places=1):
    """'-' for None; large values without decimals."""
    if value is None:
        return '-'
    return f'{value:.0f}' if value >= 10000 else f'{value:.{places}f}'


def per_operation(value):
    """A counter; an empty cell means exactly 0."""
    if not value:
        return '' if value == 0 else '-'
    return f'{value:.4f}'.rstrip('0').rstrip('.')


def ratio(of, to):
    return f'{of / to:.2f}' if of is not None and to else '-'
