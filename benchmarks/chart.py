"""A record as a picture: a panel of bars for each of the key workloads, as SVG that needs nothing else."""

from __future__ import annotations

from xml.sax.saxutils import escape

from record import Record, Result, number

COLUMNS = 2
PANEL, GAP, MARGIN = 520, 24, 20  # widths
LABEL, VALUE = 250, 80  # of a panel, left and right of the bars
HEAD, ROW, BAR = 34, 21, 14  # heights
COLORS = {"ours": "#1f6feb", "peer": "#8b949e", "limit": "#d8dee4"}
MEANING = {"ours": "websock", "peer": "other libraries", "limit": "the limit: no WebSocket in Python"}
FONT = "font-family='-apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


def svg(record: Record) -> str:
    """The picture; a white ground of its own makes it readable on any page."""
    panels = [result for result in record.results if result.chart and _rows(record, result)]
    rows = [panels[i : i + COLUMNS] for i in range(0, len(panels), COLUMNS)]
    width = 2 * MARGIN + COLUMNS * PANEL + (COLUMNS - 1) * GAP
    out: list[str] = []
    y = MARGIN + _legend(out, record)
    for row in rows:
        for column, result in enumerate(row):
            _panel(out, record, result, MARGIN + column * (PANEL + GAP), y)
        y += HEAD + max(len(_rows(record, result)) for result in row) * ROW + GAP
    height = y
    ground = f"<rect x='0.5' y='0.5' width='{width - 1}' height='{height - 1}' rx='8' fill='#ffffff' stroke='#d0d7de'/>"
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}' "
        f"{FONT} font-size='12' fill='#1f2328'>\n{ground}\n" + "\n".join(out) + "\n</svg>\n"
    )


def _rows(record: Record, result: Result) -> list[str]:
    return [name for name in result.ranking() if record.contenders[name].chart]


def _legend(out: list[str], record: Record) -> int:
    x = MARGIN
    for kind, meaning in MEANING.items():
        if kind not in {label.kind for label in record.contenders.values()}:
            continue
        out.append(f"<rect x='{x}' y='{MARGIN}' width='12' height='12' rx='2' fill='{COLORS[kind]}'/>")
        out.append(_text(x + 18, MARGIN + 10, meaning))
        x += 44 + round(6.3 * len(meaning))
    about = [record.about[title] for title in ("Python", "date") if title in record.about]
    text = ", ".join(["each second: more is better", *about])
    out.append(_text(MARGIN + COLUMNS * PANEL + (COLUMNS - 1) * GAP, MARGIN + 10, text, "end", "#59636e"))
    return 36


def _panel(out: list[str], record: Record, result: Result, x: int, y: int) -> None:
    title = result.title + (f": {result.unit}, less is better" if result.lower_is_better else "")
    out.append(_text(x, y + 14, title, weight="600", size=14))
    names = _rows(record, result)
    most = max((result.cells[name].median for name in names if result.cells[name].good), default=1.0)
    room = PANEL - LABEL - VALUE
    for place, name in enumerate(names):
        label, cell = record.contenders[name], result.cells[name]
        top = y + HEAD + place * ROW - 6
        base = top + BAR - 3
        ours = label.kind == "ours"
        out.append(_text(x + LABEL - 8, base, label.label, "end", weight="600" if ours else ""))
        if not cell.good:
            out.append(_text(x + LABEL, base, "error", color="#cf222e"))
            continue
        length = max(1.0, room * cell.median / most)
        out.append(
            f"<rect x='{x + LABEL}' y='{top}' width='{length:.1f}' height='{BAR}' rx='2' fill='{COLORS[label.kind]}'/>"
        )
        out.append(_text(x + LABEL + length + 6, base, number(cell.median), weight="600" if ours else ""))


def _text(
    x: float, y: float, text: str, anchor: str = "", color: str = "", weight: str = "", size: int | None = None
) -> str:
    attributes = {"text-anchor": anchor, "fill": color, "font-weight": weight, "font-size": size}
    more = "".join(f" {name}='{value}'" for name, value in attributes.items() if value)
    return f"<text x='{x:.1f}' y='{y:.1f}'{more}>{escape(text)}</text>"
