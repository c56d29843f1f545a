"""docs/comparison.md shows what ``metarl table`` says of the runs that it names."""

import glob
import json
import re
import statistics
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


def test_what_is_said_of_the_bandits() -> None:
    (file,) = (ROOT / "results" / "compare" / "bandit" / "rl2-s1" / "eval").glob("*tasks50000*")
    scores = [row[0] for row in json.loads(file.read_text())["per_task"]]
    spread = statistics.stdev(scores)
    mean, error = statistics.fmean(scores), spread / len(scores) ** 0.5
    assert f"Its mean is {mean:.3f} with a standard error of {error:.3f}." in PAGE
    assert f"standard errors are about {spread / 1000**0.5:.2f}" in PAGE


def test_what_is_said_of_maml_on_mazes() -> None:
    file = ROOT / "results" / "compare" / "grid-maze" / "maml-trpo-s1" / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    text = " ".join(PAGE.split())
    for name, words in (
        ("meta/post_return", "{:.2f} on average over the first ten iterations and {:.2f} over the"),
        ("train/entropy", "falls from {:.2f} to {:.2f} nats"),
    ):
        ends = [statistics.fmean(row[name] for row in part) for part in (rows[:10], rows[-10:])]
        assert words.format(*ends) in text
