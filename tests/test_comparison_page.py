"""docs/comparison.md shows what ``metarl table`` says of the runs that it names."""

import glob
import re
from pathlib import Path

import pytest

from metarl.experiments.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^<!-- metarl table (\S+) -->\n(.*?)\n<!-- end -->$", PAGE, re.M | re.S)


@pytest.mark.parametrize(("pattern", "shown"), BLOCKS)
def test_a_table_is_that_of_its_runs(
    pattern: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = sorted(glob.glob(pattern, root_dir=ROOT))
    assert main(["table", *(str(ROOT / run) for run in runs)]) == 0
    said = capsys.readouterr()
    assert "left out" not in said.err
    assert said.out.strip() == shown.strip()


def test_every_stored_comparison_is_shown() -> None:
    folders = {path.parents[1].name for path in (ROOT / "results" / "compare").glob("*/*/DONE")}
    assert folders == {pattern.split("/")[2] for pattern, _ in BLOCKS}
