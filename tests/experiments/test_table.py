"""Final results of runs side by side: what is pooled, what is kept apart, what is left out."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from metarl import envs
from metarl.experiments.cli import main
from metarl.statistics import interquartile_mean

NAME = "metarl/PointNavigation-v0"
NAVIGATION: dict[str, object] = {"name": NAME, **dataclasses.asdict(envs.preset(NAME))}
FLOOR = {"mean": [-9.0, -9.0], "iqm": [-9.0, -9.0], "ci_low": [-10.0] * 2, "ci_high": [-8.0] * 2}


def write_run(
    folder: Path, seed: int, shift: float, env: dict[str, object] = NAVIGATION, lr: float = 0.1
) -> np.ndarray:
    """Write a finished run of two meta-iterations; return its scores [8 tasks, 2]."""
    (folder / "eval").mkdir(parents=True)
    config = {"preset": "maml|trpo/x_y", "seed": seed, "episodes": 20, "env": env}
    config |= {"agent": {"inner_lr": lr}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [
        {"iteration": i, "env_steps": 1e6 * i, "meta/post_return": 0.0}
        | {"time/sampling_s": 30.0, "time/update_s": 60.0}
        for i in (1, 2)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = np.random.default_rng(seed).normal(size=(8, 2)) + np.array([shift, shift + 5.0])
    content = {"per_task": scores.tolist(), "score": "return", "references": {"random": FLOOR}}
    (folder / "eval" / "000002_tasks8_adaptations1.json").write_text(json.dumps(content))
    (folder / "eval" / "000001_tasks9_adaptations1.json").write_text("{}")  # of an earlier sitting
    (folder / "DONE").write_text("{}")
    return scores


def rows_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    assert main(["table", *arguments, "--format", "csv"]) == 0
    return list(csv.reader(capsys.readouterr().out.splitlines()))


def test_seeds_of_a_setting_are_pooled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [write_run(tmp_path / str(seed), seed, 0.0) for seed in (1, 2)]
    head, line, floor = rows_of(capsys, *(str(tmp_path / str(seed)) for seed in (1, 2)))
    row = dict(zip(head, line, strict=True))
    assert (row["setting"], row["seeds"], row["iterations"]) == ("maml|trpo/x_y", "2", "2")
    assert (row["env steps"], row["wall time"]) == ("2.00M", "3.0 min")
    expected = interquartile_mean(np.concatenate(both)[:, 1])
    assert row["after 1"].startswith(f"{expected:.2f} [")
    assert (head[0], floor[1]) == ("environment", "random")
    assert floor[-1] == "-9.00 [-10.00, -8.00]"


def test_settings_are_never_averaged_and_the_best_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", 1, -3.0)
    write_run(tmp_path / "b", 1, 3.0, lr=0.2)
    _, first, second, _ = rows_of(capsys, str(tmp_path / "a"), str(tmp_path / "b"))
    assert (first[2], second[2]) == ("1", "1")
    assert float(first[-1].split()[0]) > float(second[-1].split()[0]) + 3.0


def test_environments_are_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", 1, 0.0)
    write_run(tmp_path / "b", 1, 0.0, env=NAVIGATION | {"horizon": 50})
    rows = rows_of(capsys, str(tmp_path / "a"), str(tmp_path / "b"))
    assert [row[0].split(":")[0] for row in rows if row[1] == "maml|trpo/x_y"] == [
        "metarl/PointNavigation-v0, maml-2017",
        "metarl/PointNavigation-v0 (horizon 50)",
    ]


def test_what_cannot_be_read_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good", "unfinished", "corrupt"):
        write_run(tmp_path / name, 1, 0.0)
    (tmp_path / "unfinished" / "DONE").unlink()
    (tmp_path / "corrupt" / "eval" / "000002_tasks8_adaptations1.json").write_text('{"per_task')
    folders = [str(tmp_path / name) for name in ("good", "unfinished", "corrupt", "missing")]
    assert main(["table", *folders]) == 0
    said = capsys.readouterr()
    assert said.out.count("maml\\|trpo/x_y") == 1
    for line, name in zip(said.err.splitlines(), folders[1:], strict=True):
        assert line.startswith(f"left out: {name} ")
    assert main(["table", *folders[1:]]) == 2


def test_latex_is_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", 1, 0.0)
    assert main(["table", str(tmp_path / "a"), "--format", "latex"]) == 0
    out = capsys.readouterr().out
    assert r"maml|trpo/x\_y & 1 & 2 & 2.00M" in out
    assert out.count(r"\begin{tabular}{llrrrrr}") == 1
