"""Contracts as Markdown: what the docstrings of ``metarl.envs`` become on the pages.

A contract is a title, then blocks with an empty line between them. A table is a block whose columns
are ruled by ``===``: a rule, a header row, a rule, the other rows, a rule. Text keeps inside the
rule of its column, only that of the last one may go on; a row whose first cell is empty goes on
with the row above.
"""

import re
from collections.abc import Iterable, Sequence

_LEAD = re.compile(
    r"(?:Task|Observation|Action|Reward|Success|Horizon|Start|Score|Presets)"
    r"(?: [a-z]+){0,3}(?=[,:]| \()"
)
"""First words of the parts of a contract, where they are not a sentence by themselves."""
_SENTENCE = re.compile(r"[A-Z][^\s.]*(?: [^\s.]+){0,3}\.(?= )")
"""A short first sentence."""
_MODULE = re.compile(r"``metarl\.envs\.([a-z_]+)``")


def contract_text(docstring: str) -> str:
    """Turn a contract into Markdown: a title, leads in bold, tables as Markdown tables.

    Other files of environments that it names are linked to their pages.

    Raises:
        ValueError: text of a table crosses the gap between two columns, or the table has no header
            row; the message holds the line.
    """
    title, _, body = docstring.strip().partition("\n")
    blocks = [block for block in body.strip().split("\n\n") if block.strip()]
    return "\n\n".join([f"# {_inline(title.rstrip('.'))}", *map(_block, blocks)])


def named_modules(docstring: str) -> list[str]:
    """Return the files of environments that a contract names as ``metarl.envs.<name>``."""
    return list(dict.fromkeys(_MODULE.findall(docstring)))


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines
    )


def _block(block: str) -> str:
    if block.startswith("==="):
        titles, *rows = _table_rows(block.split("\n"))
        return markdown_table(titles, rows).rstrip()
    lead = _LEAD.match(block) or _SENTENCE.match(block)
    if lead:
        block = f"**{lead[0]}**{block[lead.end() :]}"
    return _inline(block)


def _inline(text: str) -> str:
    return _MODULE.sub(r"[`metarl.envs.\1`](\1.md)", text).replace("``", "`")


def _table_rows(lines: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the cells of a table whose columns are ruled by ``===``, its header row first."""
    rule = lines[0]
    if len(lines) < 3 or lines[2] != rule:
        raise ValueError(f"a table needs one header row and the same rule below it: {lines[1]!r}")
    starts = [match.start() for match in re.finditer("=+", rule)]
    gaps = [place for place, mark in enumerate(rule) if mark == " "]
    rows: list[tuple[str, ...]] = []
    for line in lines:
        if line == rule:
            continue
        if any(line[gap : gap + 1].strip() for gap in gaps):
            raise ValueError(f"text crosses the gap between two columns of a table: {line!r}")
        ends = [*starts[1:], None]
        cells = [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
        if cells[0]:
            rows.append(tuple(map(_inline, cells)))
        else:
            above = zip(rows.pop(), map(_inline, cells), strict=True)
            rows.append(tuple(f"{over} {under}".strip() for over, under in above))
    return rows
