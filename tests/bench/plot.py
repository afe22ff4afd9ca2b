"""Bars as SVG, by hand: nothing to install, and a change is a readable difference."""

from html import escape

WIDTH, LEFT, RIGHT, ROW, TOP = 760, 190, 110, 30, 44
COLOURS = ["#8cb4d8", "#4878a8", "#b8cde0", "#d8a05c", "#c46a4a", "#bbbbbb", "#777777", "#5a9a6a", "#9a6a9a", "#333333"]


def bars(title, rows, unit="s"):
    """`rows`: name, and its stages as (name, value); their sum is written behind the bar."""
    totals = {name: sum(value for _, value in stages) for name, stages in rows}
    most = max(totals.values())
    scale = (WIDTH - LEFT - RIGHT) / most
    # What is too short to be seen needs no colour.
    rows = [(name, [stage for stage in stages if stage[1] * scale >= 0.5]) for name, stages in rows]
    names = list(dict.fromkeys(name for _, stages in rows for name, _ in stages))
    height = TOP + ROW * len(rows) + 40
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (name, stages) in enumerate(rows):
        y, x = TOP + ROW * number, float(LEFT)
        out.append(f'<text x="{LEFT - 8}" y="{y + 17}" text-anchor="end">{escape(name)}</text>')
        for stage, value in stages:
            colour = COLOURS[names.index(stage) % len(COLOURS)]
            width = value * scale
            out.append(f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{ROW - 9}" fill="{colour}"/>')
            x += width
        total = totals[name]
        out.append(f'<text x="{x + 6:.1f}" y="{y + 17}">{total:.1f} {unit}</text>')
    x = 12
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        out.append(f'<rect x="{x}" y="{height - 24}" width="12" height="12" fill="{colour}"/>')
        out.append(f'<text x="{x + 17}" y="{height - 13}">{escape(name)}</text>')
        x += 32 + 8 * len(name)
    return "\n".join([*out, "</svg>", ""])
