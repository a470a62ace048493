"""The curves of memory as an SVG of its own, without a library: one line a process, a tick where one was killed."""

from collections.abc import Sequence
from html import escape

from tests.soak.watching import Curve

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 900, 420, 60, 30, 130, 40
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")


def drawn(curves: Sequence[Curve], kills: Sequence[float], seconds: float) -> str:
    """Return the picture: MB over seconds."""
    most = max([curve.peak_mb for curve in curves], default=1.0) * 1.1 or 1.0
    names = list(dict.fromkeys(curve.name for curve in curves))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    inside_x, inside_y = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(x_s: float, mb: float) -> str:
        return f"{LEFT + inside_x * x_s / seconds:.1f},{TOP + inside_y * (1 - mb / most):.1f}"

    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for step in range(6):
        mb, when = most * step / 5, seconds * step / 5
        _, y = at(0, mb).split(",")
        x, _ = at(when, 0).split(",")
        parts.append(f'<path d="M{LEFT} {y}h{inside_x}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y}" text-anchor="end">{mb:.0f}</text>')
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{when:.0f} s</text>')
    for kill in kills:
        x, y = at(kill, 0).split(",")
        parts.append(f'<path d="M{x} {y}v-8" stroke="black"/>')
    for curve in curves:
        line = " ".join(at(*point) for point in curve.points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colours[curve.name]}" stroke-width="1.5"/>')
    for number, (name, colour) in enumerate(colours.items()):
        text = f'x="{WIDTH - RIGHT + 12}" y="{TOP + 20 * number}" fill="{colour}"'
        parts.append(f"<text {text}>{escape(name)}</text>")
    parts.append(f'<text x="{LEFT}" y="{TOP - 12}">MB; ticks below: a worker was killed</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
    return f'{head} font-size="13">\n' + "\n".join(parts) + "\n</svg>\n"
