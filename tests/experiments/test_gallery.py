"""The pages of environments: made from the code, and up to date in docs/envs."""

import re
from pathlib import Path

import pytest

from metarl import envs
from metarl.experiments.cli import main
from metarl.experiments.gallery import Page, index_text, known_pictures, page_text, pages
from metarl.experiments.gallery_text import contract_text, markdown_table

DOCS = Path(__file__).resolve().parents[2] / "docs" / "envs"
CONTRACT = """A thing: it does something.

Task. ``goal`` is hidden, as in ``metarl.envs.ant``.

Observation, in order (3 entries):

===== ========= ====
index what      unit
===== ========= ====
0     height    m
1-2   a | b     rad
      and more
===== ========= ====

Until then nothing matters: wait.

Action. One ``number``. It acts.
"""
TABLE = CONTRACT[CONTRACT.index("===") : CONTRACT.index("Until")]


def test_a_contract_becomes_markdown() -> None:
    assert contract_text(CONTRACT).split("\n") == [
        "# A thing: it does something",
        "",
        "**Task.** `goal` is hidden, as in [`metarl.envs.ant`](ant.md).",
        "",
        "**Observation**, in order (3 entries):",
        "",
        "| index | what | unit |",
        "| --- | --- | --- |",
        "| 0 | height | m |",
        "| 1-2 | a &#124; b and more | rad |",
        "",
        "Until then nothing matters: wait.",
        "",
        "**Action.** One `number`. It acts.",
    ]


def test_text_across_the_gap_between_two_columns_is_named() -> None:
    wide = TABLE.replace("height    m", "how high it is")
    with pytest.raises(ValueError, match=r"crosses the gap.*'0     how high it is'"):
        contract_text(f"A thing.\n\n{wide}")


def test_a_table_without_a_header_row_is_named() -> None:
    bare = TABLE.replace("index what      unit\n===== ========= ====\n", "")
    with pytest.raises(ValueError, match=r"header row.*'0     height    m'"):
        contract_text(f"A thing.\n\n{bare}")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.module)
def test_every_contract_becomes_markdown(page: Page) -> None:
    """No marks of the docstring's tables are left, and every table is whole."""
    text = contract_text(page.contract)
    assert "===" not in text
    assert "``" not in text
    assert "\n|  |" not in text
    for table in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_links_lead_to_pages() -> None:
    there = {page.module for page in pages()}
    linked = {name for page in pages() for name in _links(contract_text(page.contract))}
    assert {"random_dynamics", "half_cheetah", "grid_navi_ceilings", "mdp_ceilings"} <= linked
    assert linked <= there
    assert set(_links(index_text())) == there


def _links(text: str) -> list[str]:
    return re.findall(r"\]\((\w+)\.md\)", text)


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


def text_of(module: str, ceiling_tasks: int = 1) -> str:
    page = next(page for page in pages() if page.module == module)
    return page_text(page, {}, ceiling_tasks)


def test_presets_with_other_parameters_have_a_table_of_their_own() -> None:
    text = text_of("navigation")
    assert "Tasks with `promp-2019`; a range covers all splits (train, test):" in text
    assert "| `goal` | where to go |  | 2 | one of -2, 2 |" in text
    assert re.search(
        r"Tasks with `maml-2017`, .*; a range covers .* \(train, test, shifted\):", text
    )
    assert "| `goal` | where to go |  | 2 | -1 to 1 |" in text


def test_presets_with_the_same_parameters_share_a_table() -> None:
    assert text_of("grid_navi").count("Tasks; a range covers all splits (train, test):") == 1
    assert "Tasks with `umaze`" in text_of("point_maze")


def test_ranges_read_as_words() -> None:
    assert "one of 0, 1, 2, 3, 4 |" in text_of("grid_navi")
    assert "| mean reward of (s, a) |  | 10 x 5 | any number |" in text_of("tabular")


def test_long_cells_are_cut() -> None:
    assert "| 11111111/1s011001/100... |" in text_of("point_maze")


def test_ceilings_are_means_over_whole_rounds_of_a_short_list() -> None:
    text = text_of("grid_navi", ceiling_tasks=50)
    assert "a trial of 4 episodes, means over 2 rounds of all 21 held-out tasks:" in text
    # Told the goal: 240 steps at the 21 goals, each worth 1.1 more than one elsewhere.
    assert f"| told the goal | {-1.5 + 1.1 * 240 / 21:.3g} |" in text
    assert "means over 5 held-out tasks:" in text_of("grid_navi", ceiling_tasks=5)


def test_bandits_and_mdps_show_the_floor() -> None:
    assert len(re.findall(r"\| random \| (\S+) \| \1 \|", text_of("tabular"))) == 3


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
