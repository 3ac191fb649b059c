"""Groups of bars as an SVG file."""
from xml.sax.saxutils import escape

COLOURS = ('#7f7f7f', '#9ecae1', '#3182bd', '#a1d99b', '#31a354')
BAR, GAP, HEIGHT, LEFT, TOP = 30, 34, 260, 60, 70


def bars(path, title, panels):
    """`panels`: [(caption, {group: {series: value}})], one below the other; the same series in each group. The height of a bar is its value in
    percent of the first series' value."""
    series = list(next(iter(panels[0][1].values())))
    groups = max(len(panel[1]) for panel in panels)
    width = LEFT + groups * (len(series) * BAR + GAP) + GAP
    height = TOP + len(panels) * (HEIGHT + 110)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
           f'font-size="12">', '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LEFT}" y="26" font-size="16">{escape(title)}</text>']
    for i, name in enumerate(series):
        x = LEFT + i * 125
        out.append(f'<rect x="{x}" y="40" width="12" height="12" fill="{COLOURS[i]}"/>'
                   f'<text x="{x + 18}" y="51">{escape(name)}</text>')
    for number, (caption, values) in enumerate(panels):
        out += panel(TOP + number * (HEIGHT + 110), width, caption, values)
    with open(path, 'w', encoding='utf-8') as file:
        file.write('\n'.join([*out, '</svg>', '']))


def panel(top, width, caption, values):
    highest = max(100 * value / line[next(iter(line))] for line in values.values() for value in line.values())
    step = next(step for step in (20, 50, 100, 200, 500, 1000, 5000) if highest / step <= 8)
    bottom = top + 30 + HEIGHT

    def y(percent):
        return bottom - percent * HEIGHT / (highest * 1.08)

    yield f'<text x="{LEFT}" y="{top + 18}">{escape(caption)}</text>'
    for percent in range(0, int(highest) + 1, step):
        yield (f'<line x1="{LEFT}" x2="{width - GAP / 2}" y1="{y(percent):.1f}" y2="{y(percent):.1f}" stroke="#dddddd"/>'
               f'<text x="{LEFT - 8}" y="{y(percent) + 4:.1f}" text-anchor="end">{percent} %</text>')
    x = LEFT + GAP / 2
    for group, line in values.items():
        first = next(iter(line.values()))
        yield f'<text x="{x + len(line) * BAR / 2:.1f}" y="{bottom + 20}" text-anchor="middle">{escape(group)}</text>'
        for i, (name, value) in enumerate(line.items()):
            percent = 100 * value / first
            yield (f'<rect x="{x:.1f}" y="{y(percent):.1f}" width="{BAR - 3}" height="{bottom - y(percent):.1f}" '
                   f'fill="{COLOURS[i]}"><title>{escape(f"{group}, {name}: {value:g}")}</title></rect>'
                   f'<text x="{x + (BAR - 3) / 2:.1f}" y="{y(percent) - 4:.1f}" text-anchor="middle" font-size="9">'
                   f'{percent:.0f}</text>')
            x += BAR
        x += GAP
