"""The results for people: a table in the terminal and a page of HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from results import BEHAVIORS, Difference, Examination, Expected

_COLUMNS = (*BEHAVIORS, "missing", "bad close")
_HEAD = ["testee", "cases", *_COLUMNS, "time", "verdict"]

_MISSING_SHOWN = 10
"""In the terminal; many missing cases have one cause, and the page has them all."""

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Autobahn: {verdict}</title>
<style>
:root {{ color-scheme: light dark; --line: light-dark(#ddd, #444); }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ padding: .3rem .6rem; text-align: left; border-bottom: 1px solid var(--line); }}
.counts {{ font-size: .85em; white-space: nowrap; }}
.counts td + td:not(:last-child), .counts th + th:not(:last-child) {{ text-align: right; }}
.good {{ color: light-dark(#176f2c, #6fdd8b); }}
.bad {{ color: light-dark(#b3261e, #ff8a80); }}
</style>
</head>
<body>
<h1>Autobahn: <span class="{mood}">{verdict}</span></h1>
<p>{about}</p>
<table class="counts">
<tr>{head}</tr>
{rows}
</table>
{sections}
</body>
</html>
"""


def as_expected(examination: Examination, expected: Expected) -> bool:
    """Whether this testee came to its end with the expected results."""
    return not (examination.problem or examination.differences(expected))


def table(examinations: Sequence[Examination], expected: Expected) -> str:
    """Write the counts of each testee, and below them every difference."""
    rows = [_HEAD, *(_row(examination, expected) for examination in examinations)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *numbers, last in rows:
        padded = (number.rjust(width) for number, width in zip(numbers, widths[1:-1], strict=True))
        lines.append("  ".join((first.ljust(widths[0]), *padded, last)).rstrip())
    for examination in examinations:
        if not as_expected(examination, expected):
            lines += ["", f"{examination.testee}: {_verdict(examination, expected)}"]
            lines += _explained(examination, expected)
    return "\n".join(lines)


def page(examinations: Sequence[Examination], expected: Expected, about: str) -> str:
    """Write the same as a page of HTML, with links to wstest's own pages in the folders of the testees."""
    good = all(as_expected(examination, expected) for examination in examinations)
    return _PAGE.format(
        verdict="as expected" if good else "not as expected",
        mood=_mood(good),
        about=escape(about),
        head=_cells(_HEAD, "th"),
        rows="\n".join(_html_row(examination, expected) for examination in examinations),
        sections="\n".join(
            _html_section(examination, expected)
            for examination in examinations
            if not as_expected(examination, expected)
        ),
    )


def _row(examination: Examination, expected: Expected) -> list[str]:
    counts = examination.count()
    return [
        examination.testee,
        str(len(examination.cases)),
        *(str(counts[column]) for column in _COLUMNS),
        f"{examination.seconds:.0f} s",
        _verdict(examination, expected),
    ]


def _verdict(examination: Examination, expected: Expected) -> str:
    differences = len(examination.differences(expected))
    said = f"{differences} difference{'s' if differences > 1 else ''}" if differences else "as expected"
    return f"{said}, not finished" if examination.problem else said


def _explained(examination: Examination, expected: Expected) -> Iterable[str]:
    if examination.problem:
        yield f"  {examination.problem}"
    missing = 0
    for difference in examination.differences(expected):
        missing += difference.page is None
        if difference.page or missing <= _MISSING_SHOWN:
            yield f"  {difference.case:<8} {difference.found}: {difference.description}"
    if missing > _MISSING_SHOWN:
        yield f"  and {missing - _MISSING_SHOWN} more missing"


def _html_row(examination: Examination, expected: Expected) -> str:
    first, *numbers, last = map(escape, _row(examination, expected))
    link = f'<a href="{first}/index.html">{first}</a>' if examination.results else first
    verdict = f'<span class="{_mood(as_expected(examination, expected))}">{last}</span>'
    return f"<tr>{_cells([link, *numbers, verdict])}</tr>"


def _html_section(examination: Examination, expected: Expected) -> str:
    parts = [f"<h2>{escape(examination.testee)}</h2>"]
    if examination.problem:
        parts.append(f'<p class="bad">{escape(examination.problem)}</p>')
    if differences := examination.differences(expected):
        rows = (f"<tr>{_cells(_html_difference(examination.testee, found))}</tr>" for found in differences)
        parts += ["<table>", *rows, "</table>"]
    return "\n".join(parts)


def _html_difference(testee: str, difference: Difference) -> list[str]:
    case = difference.case
    if difference.page:
        case = f'<a href="{escape(testee)}/{escape(difference.page)}">{case}</a>'
    return [case, escape(difference.found), escape(difference.description)]


def _cells(texts: Iterable[str], tag: str = "td") -> str:
    return "".join(f"<{tag}>{text}</{tag}>" for text in texts)


def _mood(good: bool) -> str:
    return "good" if good else "bad"
