"""The command reference: what ``--help`` says of every command, as definitions.

``{command-reference}`` puts one section for each command of the command line into a page.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from metarl.experiments.cli import COMMANDS, main

EXAMPLE = "maml-trpo/navigation"
"""The preset whose flags are shown where a command takes one."""
_WIDTH = "100"  # columns; wider, the boxes of flags stand side by side
_BOX = re.compile(r"^╭─ (?P<title>.*?) ─+╮$")
_ROW = re.compile(r"^│ (?P<text>.*?) *│$")


class Flag(NamedTuple):
    """One flag or positional argument: how it is written, and its help."""

    usage: str
    text: str


class Group(NamedTuple):
    """One box of flags."""

    title: str
    text: str
    flags: tuple[Flag, ...]


class Help(NamedTuple):
    """What ``metarl <words> --help`` says."""

    words: tuple[str, ...]
    usage: str
    text: str
    groups: tuple[Group, ...]


def said(arguments: Sequence[str]) -> str:
    """Return what the command line prints for these arguments, complaints apart."""
    # Tyro draws the boxes that are read below for streams of this encoding alone.
    stream, columns = io.TextIOWrapper(io.BytesIO(), "utf-8"), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDTH
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(io.StringIO()):
            main(arguments)
    except SystemExit:  # tyro's way out of --help
        pass
    finally:
        del os.environ["COLUMNS"]
        if columns is not None:
            os.environ["COLUMNS"] = columns
    stream.seek(0)
    return stream.read()


def helps(name: str) -> Iterator[Help]:
    """Yield the help of a command, or of each of its kinds: ``bench envs``, ``bench gpu``."""
    text = said([name, "--help"])
    if text.startswith("usage:"):
        yield parsed((name,), text)
        return
    for kind in COMMANDS[name].usage.split()[1].strip("[]").split("|"):
        tries = [(name, EXAMPLE)] if kind == "PRESET" else [(name, kind), (name, kind, EXAMPLE)]
        for words in tries:
            text = said([*words, "--help"])
            if text.startswith("usage:"):
                yield parsed(words, text)
                break


def parsed(words: tuple[str, ...], text: str) -> Help:
    """Take a help text apart."""
    head, *boxes = re.split(r"^(?=╭)", text, flags=re.MULTILINE)
    usage, _, about = head.strip().partition("\n\n")
    return Help(words, _joined(usage), about, tuple(_group(box.splitlines()) for box in boxes))


def _group(lines: Sequence[str]) -> Group:
    title = _BOX.fullmatch(lines[0])
    if title is None:
        raise ValueError(f"no box of flags: {lines[0]!r}")
    rows = [row["text"] for line in lines[1:] if (row := _ROW.fullmatch(line))]
    rule = next((number for number, row in enumerate(rows) if set(row) == {"─"}), -1)
    entries: list[list[str]] = []
    for row in rows[rule + 1 :]:
        if row.startswith(" "):
            entries[-1].append(row.strip())
        else:
            entries.append(re.split(r"\s{2,}", row, maxsplit=1))
    about = " ".join(rows[: max(rule, 0)])
    flags = (
        Flag(usage.replace("{None}|", ""), " ".join(text).removesuffix(" (default: None)"))
        for usage, *text in entries
    )
    shown = tuple(flag for flag in flags if not flag.usage.startswith("-h,"))
    return Group(title["title"], about, shown)


def _joined(text: str) -> str:
    return " ".join(text.split())


def _text(text: str) -> list[nodes.Node]:
    """Return text in which double backticks mark code."""
    parts = text.split("``")
    return [
        nodes.literal("", part) if number % 2 else nodes.Text(part)
        for number, part in enumerate(parts)
    ]


class CommandReference(SphinxDirective):
    """A section for each command."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        return [_section(name) for name in COMMANDS]


def _section(name: str) -> nodes.section:
    section = nodes.section("", nodes.title("", name), ids=[f"metarl-{name}"], names=[name])
    section += nodes.literal_block("", f"metarl {COMMANDS[name].usage}", language="text")
    kinds = list(helps(name))
    if len(kinds) != 1:
        summary = COMMANDS[name].summary
        section += nodes.paragraph("", f"{summary[:1].upper()}{summary[1:]}.")
    for help_ in kinds:
        if len(kinds) != 1:
            section += nodes.rubric("", f"metarl {' '.join(help_.words)}")
        section += _shown(help_)
    return section


def _shown(help_: Help) -> list[nodes.Node]:
    """Return a help's nodes; the flags of ``train`` are not repeated where others take them too."""
    known = _flags_of_train() if help_.words[0] != "train" else frozenset()
    shown: list[nodes.Node] = []
    shown += [nodes.paragraph("", "", *_text(part)) for part in help_.text.split("\n\n")]
    for group in help_.groups:
        own = [flag for flag in group.flags if flag not in known]
        if own:
            title = [nodes.strong("", group.title), nodes.Text(f": {group.text}")]
            shown.append(nodes.paragraph("", "", *title[: 2 if group.text else 1]))
            shown.append(nodes.definition_list("", *map(_definition, own), classes=["flags"]))
    if any(flag in known for group in help_.groups for flag in group.flags):
        shown.append(nodes.paragraph("", "Besides, all flags of the preset, as in metarl train."))
    return shown


@cache
def _flags_of_train() -> frozenset[Flag]:
    return frozenset(flag for help_ in helps("train") for box in help_.groups for flag in box.flags)


def _definition(flag: Flag) -> nodes.definition_list_item:
    term = nodes.term("", "", nodes.literal("", flag.usage))
    text = nodes.definition("", nodes.paragraph("", "", *_text(flag.text)))
    return nodes.definition_list_item("", term, text)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("command-reference", CommandReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
