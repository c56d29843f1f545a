"""What the README shows runs as it stands there."""

import json
import re
from pathlib import Path
from typing import Any

import torch

from metarl.envs import ENVS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def run_block(number: int) -> dict[str, Any]:
    code = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[number]
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    return names


def test_quickstart_runs_and_acts() -> None:
    names = run_block(0)
    assert names["action"].shape == (1, 20, 2)
    assert torch.isfinite(names["action"]).all()


def test_the_faces_run_as_shown() -> None:
    names = run_block(1)
    assert names["env"].unwrapped.task == {"velocity": 1.5}
    assert names["obs"].shape == (8, 17)
    assert names["model"].num_timesteps == 1024


def test_results_table_says_what_the_files_say() -> None:
    table = README.split("## Results")[1].split("## ")[0]
    rows = re.findall(r"^\| `results/([a-z0-9-]+)` \| (.*) \|$", table, flags=re.MULTILINE)
    assert len(rows) >= 5
    for folder, cells in rows:
        # A bandit is evaluated twice; the larger evaluation is the one that counts.
        files = (ROOT / "results" / folder / "eval").glob("*_tasks*_adaptations3.json")
        result = max((json.loads(f.read_text()) for f in files), key=lambda r: len(r["per_task"]))
        untrained = result["references"]["untrained, adapted"]["mean"][1]
        shown = [result["iteration"], len(result["per_task"]), *result["mean"], untrained]
        for cell, value in zip(cells.split(" | "), shown, strict=False):
            digits = len(cell.partition(".")[2])
            assert float(cell) == round(value, digits), f"{folder}: {cell} is {value}"


def test_commands_and_links_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)`", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_every_environment_and_preset_is_named() -> None:
    section = README.split("## Environments")[1].split("\n## ")[0]
    rows = dict(
        re.findall(r"^\| \[`(metarl/[^`]+)`\]\([^)]+\) \| [^|]+ \| ([^|]+) \|$", section, re.M)
    )
    assert list(rows) == list(ENVS)
    for name, family in ENVS.items():
        assert re.findall(r"`([^`]+)`", rows[name]) == list(family.presets)
