"""What the page about following a run shows runs as it stands there, and it names every tag."""

import contextlib
import json
import re
from pathlib import Path

from metarl.logger import read_metrics, with_sb3_names

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "tracking.md").read_text()


def test_the_example_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    with contextlib.chdir(tmp_path):
        exec(compile(code, "tracking.md", "exec"), {})
    run = tmp_path / "runs" / "mine"
    end = json.loads((run / "DONE").read_text())
    assert end["stopped"] == "EarlyStop(patience=3, min_delta=0.0, on='mine/smooth')"
    rows = read_metrics(run / "metrics.jsonl")
    last = [row["meta/post_return"] for row in rows[-5:]]
    assert rows[-1]["mine/smooth"] == sum(last) / 5
    assert 4 <= len(rows) == end["iteration"] < 60


def test_every_tag_of_stored_runs_is_on_the_page() -> None:
    files = [*(ROOT / "results" / "compare").rglob("metrics.jsonl")]
    assert files
    for file in files:
        row = read_metrics(file)[-1]
        metrics = {name: x for name, x in row.items() if name not in ("iteration", "env_steps")}
        for name in with_sb3_names(1, 1, metrics):
            assert f"`{name}`" in PAGE, f"{file}: {name}"
