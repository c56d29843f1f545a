"""The pages of environments: made from the code, and up to date in docs/envs."""

import re
from pathlib import Path

import pytest

from metarl import envs
from metarl.experiments.cli import main
from metarl.experiments.gallery import (
    Page,
    contract_text,
    index_text,
    known_pictures,
    markdown_table,
    page_text,
    pages,
)

DOCS = Path(__file__).resolve().parents[2] / "docs" / "envs"
CONTRACT = """A thing: it does something.

Task. ``goal`` is hidden.

Seen, in order:

===== ========= ====
index what      unit
===== ========= ====
0     height    m
1-2   a | b     rad
===== ========= ====

Action. One ``number``.
"""


def test_a_contract_becomes_markdown() -> None:
    assert contract_text(CONTRACT).split("\n") == [
        "# A thing: it does something",
        "",
        "**Task.** `goal` is hidden.",
        "",
        "Seen, in order:",
        "",
        "| index | what | unit |",
        "| --- | --- | --- |",
        "| 0 | height | m |",
        "| 1-2 | a &#124; b | rad |",
        "",
        "**Action.** One `number`.",
    ]


def test_a_table() -> None:
    assert markdown_table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_every_environment_has_a_page_and_every_preset_a_column() -> None:
    assert sorted(name for page in pages() for name in page.names) == sorted(envs.ENVS)
    for page in pages():
        text = page_text(page, {}, ceiling_tasks=1)
        for name in page.names:
            assert f"`{name}`" in text
            for preset in envs.ENVS[name].presets:
                assert preset in text


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.module)
def test_the_pages_in_the_documentation_are_of_this_code(page: Page) -> None:
    """All but the ceilings' figures; ``metarl gallery --out docs/envs`` makes the pages anew."""
    now = page_text(page, known_pictures(page, DOCS), ceiling_tasks=1).splitlines()
    written = (DOCS / f"{page.module}.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in written if not _is_figure(line)] == [
        line for line in now if not _is_figure(line)
    ]


def _is_figure(line: str) -> bool:
    return re.search(r"held-out tasks:$|(\| -?[\d.e+-]+ ){2}\|$", line) is not None


def test_the_command_writes_pages_and_pictures(tmp_path: Path) -> None:
    out = tmp_path / "pages"
    assert main(["gallery", "--out", str(out), "--no-pictures", "--ceiling-tasks", "1"]) == 0
    assert {path.name for path in out.glob("*.md")} == {
        "README.md",
        *(f"{page.module}.md" for page in pages()),
    }
    assert (out / "README.md").read_text(encoding="utf-8") == index_text()


def test_a_file_in_the_way_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    assert main(["gallery", "--out", str(file)]) == 2
    assert "--out must be a folder" in capsys.readouterr().err
