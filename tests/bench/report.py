"""What the figures come to: tables in Markdown, a chart in SVG. Measures nothing."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

Values = Sequence[float]
Figures = Mapping[str, Values]


@dataclass(frozen=True)
class Column:
    """A figure: what is measured, in what unit, and whether more of it is better."""

    key: str
    title: str
    unit: str
    more_is_better: bool = False


COLUMNS = (
    Column("submit", "submit, one at a time", "/s", more_is_better=True),
    Column("bulk", "submit, all together", "/s", more_is_better=True),
    Column("drain", "drain of no-op runs, one process", "/s", more_is_better=True),
    Column("drain-2", "the same, two processes", "/s", more_is_better=True),
    Column("p50", "round trip to an idle worker, p50", "ms"),
    Column("p99", "the same, p99", "ms"),
    Column("fan-out", "1,000 submitted and gathered", "ms"),
    Column("large", "100 KB in and out", "/s", more_is_better=True),
    Column("rss", "idle worker, its largest process", "MB"),
    Column("pss", "idle worker, all its processes", "MB"),
    Column("queued", "Redis memory of a queued run", "B"),
    Column("finished", "Redis memory of a finished run", "B"),
    Column("trips", "reads by Redis for each drained run", ""),
)


def times_better(column: Column, ours: Values, theirs: Values) -> float:
    """How many times better ours are, by their medians."""
    ratio = statistics.median(ours) / statistics.median(theirs)
    return ratio if column.more_is_better else 1 / ratio


def comparison(measured: Mapping[str, Figures], void: Mapping[str, str]) -> str:
    """A table of medians. Behind a peer's figure stands how many times better Baton's is; the void are left out."""
    ours = measured["baton"]
    peers = [name for name in measured if name != "baton" and name not in void]
    rows = []
    for column in COLUMNS:
        if column.key not in ours:
            continue
        theirs = {name: measured[name][column.key] for name in peers if column.key in measured[name]}
        ratios = {name: times_better(column, ours[column.key], values) for name, values in theirs.items()}
        best = f"{min(ratios.values()):.2f} x" if ratios else "-"
        cells = [f"{number(values)} ({ratios[name]:.1f} x)" for name, values in theirs.items()]
        rows.append([f"{column.title}, {column.unit}".rstrip(", "), f"**{number(ours[column.key])}**", best, *cells])
    table = _table(["median", "Baton", "beside the best", *peers], rows)
    notes = [f"\n{name} is void: {why}" for name, why in void.items()]
    return "\n".join([table, *notes])


def spread(measured: Mapping[str, Figures]) -> str:
    """A table of the least and the most of each figure."""
    rows = [
        [
            f"{column.title}, {column.unit}".rstrip(", "),
            *(_range(figures.get(column.key)) for figures in measured.values()),
        ]
        for column in COLUMNS
        if column.key in measured["baton"]
    ]
    return _table(["least - most", *measured], rows)


def alone(rows: Sequence[tuple[str, str, str, Values]]) -> str:
    """A table of what is measured of Baton alone: name, unit, what it should be, the values."""
    cells = [[name, unit, number(values), _range(values), goal] for name, unit, goal, values in rows]
    return _table(["Baton alone", "unit", "median", "least - most", "goal"], cells)


def number(values: Values) -> str:
    """The median for people."""
    return _text(statistics.median(values))


def _range(values: Values | None) -> str:
    return f"{_text(min(values))} - {_text(max(values))}" if values else "-"


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- the chart --------------------------------------------------------------------------------------------------------

WIDTH, LABELS, BARS, LINE, GAP = 760, 130, 470, 16, 30
OURS, THEIRS = "#b3432b", "#8a94a0"


def chart(measured: Mapping[str, Figures], void: Mapping[str, str]) -> str:
    """Bars for each figure, each as long as its share of the longest; medians beside them."""
    parts: list[str] = []
    y = 10
    for column in COLUMNS:
        shown = {
            name: statistics.median(figures[column.key])
            for name, figures in measured.items()
            if column.key in figures and name not in void
        }
        if not shown:
            continue
        y += GAP
        word = "more is better" if column.more_is_better else "less is better"
        title = f"{column.title}, {column.unit}".rstrip(", ")
        parts.append(f'<text x="10" y="{y - 6}" font-weight="bold">{escape(title)} ({word})</text>')
        for name, value in shown.items():
            parts += _bar(name, value, value / max(shown.values()), y)
            y += LINE
    size = f'width="{WIDTH}" height="{y + 20}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *parts, "</svg>", ""])


def _bar(name: str, value: float, share: float, y: int) -> list[str]:
    length = max(1.0, share * BARS)
    colour = OURS if name == "baton" else THEIRS
    return [
        f'<text x="{LABELS - 8}" y="{y + 11}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{LABELS}" y="{y + 1}" width="{length:.1f}" height="{LINE - 3}" fill="{colour}"/>',
        f'<text x="{LABELS + length + 6:.1f}" y="{y + 11}">{_text(value)}</text>',
    ]
