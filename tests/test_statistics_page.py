"""What docs/statistics.md shows is what the commands and the code say."""

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.experiments.cli import main
from metarl.statistics import iqm_of_runs

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")


def test_the_table_is_that_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    ((command, shown),) = re.findall(
        r"^<!-- metarl (table .*) -->\n(.*?)\n<!-- end -->$", PAGE, re.M | re.S
    )
    with contextlib.chdir(ROOT):
        assert main(command.split()) == 0
    assert capsys.readouterr().out.strip() == shown.strip()


def test_the_example_says_what_the_text_says() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, Any] = {}
    with contextlib.chdir(ROOT):
        exec(compile(code, "statistics.md", "exec"), names)
    first, second, third = iqm_of_runs(names["after_two"][:, None])
    text = " ".join(PAGE.split())
    assert f"lie at {first:.1f}, {second:.1f} and {third:.1f}: the interval is their range" in text
    np.testing.assert_allclose(names["seeds"], sorted((first, second, third))[::2])
    low, high = names["stratified"]
    assert f"says [{low:.1f}, {high:.1f}], and leaves two of the three outside" in text


def test_the_figure_can_be_drawn(tmp_path: Path) -> None:
    (command,) = re.findall(r"^metarl (plot results/.*?[^\\])$", PAGE, re.M | re.S)
    runs = [str(path) for path in sorted((ROOT / "results").glob("reptile-navigation-s?"))]
    words = command.replace("\\\n", " ").split()
    place = words.index("results/reptile-navigation-s?")
    words[place : place + 2] = [*runs, str(ROOT / "results" / "navigation")]
    out = tmp_path / "figure.pdf"
    words[words.index("--out") + 1] = str(out)
    assert main(words) == 0
    assert out.read_bytes().startswith(b"%PDF")
