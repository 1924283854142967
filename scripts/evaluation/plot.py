"""ROC curves as an SVG file, by hand: true against false positive rate, that on a log axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 56, 190, 36, 48
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#222222")

Curve = Sequence[tuple[float, float]]


def roc_svg(title: str, curves: Mapping[str, Curve], smallest: float) -> str:
    """`curves[name]` are (FPR, TPR) with both rising; `smallest` is the least FPR to show, where
    everything below it is drawn too."""
    decades = max(1, math.ceil(-math.log10(smallest) - 1e-9))
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(rate: float) -> float:
        shown = max(rate, 10.0**-decades)
        return LEFT + inner_width * (1.0 + math.log10(shown) / decades)

    def y(rate: float) -> float:
        return TOP + inner_height * (1.0 - rate)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for power in range(-decades, 1):
        at = x(10.0**power)
        parts.append(f'<path d="M{at:.1f} {TOP}V{TOP + inner_height}" stroke="#ddd"/>')
        label = "1" if power == 0 else f"1e{power}"
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - 28}" text-anchor="middle">{label}</text>')
    for step in range(6):
        at = y(step / 5)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{LEFT + inner_width}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{step / 5:.1f}</text>'
        )
    middle = LEFT + inner_width / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">'
        "false positive rate of a sequence</text>"
    )
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        dash = ' stroke-dasharray="5 3"' if number >= len(COLOURS) else ""
        points = _steps(curve)
        line = " ".join(f"{x(fpr):.1f},{y(tpr):.1f}" for fpr, tpr in points)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        )
        at = TOP + 8 + 20 * number
        start = WIDTH - RIGHT + 16
        parts.append(f'<path d="M{start} {at}h20" stroke="{colour}" stroke-width="2"{dash}/>')
        parts.append(f'<text x="{start + 26}" y="{at + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _steps(curve: Curve) -> list[tuple[float, float]]:
    """A staircase: between two points the true positive rate is the lower one's."""
    steps: list[tuple[float, float]] = []
    for fpr, tpr in sorted(curve):
        if steps:
            steps.append((fpr, steps[-1][1]))
        steps.append((fpr, tpr))
    return [*steps, (1.0, 1.0)]
