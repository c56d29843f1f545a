"""Benchmarks from the command line: every phase, what is printed, what is written."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.envs.mujoco_env import MujocoEnv
from metarl.experiments.bench.phases import (
    PHASES,
    bench_import,
    first_round,
    record_physics,
    replay,
)
from metarl.experiments.cli import main
from metarl.experiments.presets import preset

BANDIT, CHEETAH = "maml-trpo/bandit", "maml-trpo/half-cheetah-dir"
SMALL = ["--tasks-per-update", "2", "--episodes", "2", "--env.horizon", "5", "--rounds", "2"]
# The import, in interpreters of its own, has a test to itself.
QUICK = ["--phases", *(name for name in PHASES if name != "import")]
FIGURES = {
    "update": {"meta_update"},
    "iteration": {"meta_iteration", "all_in", "acting", "stepping", "adaptation", "update"},
    "evaluation": {"adaptation_curve", "tasks"},
}
ALONE = ("environment_alone",)
RAW = ("raw_random_controls", "raw_policy_controls")


def check(figures: dict[str, Any]) -> None:
    for name, entry in figures.items():
        assert 0 < entry["low"] <= entry["median"] <= entry["high"] < math.inf, name


@pytest.mark.parametrize(
    ("name", "limits"),
    [(BANDIT, ALONE), ("reptile/navigation", ALONE), (CHEETAH, RAW)],
)
def test_every_phase_gives_figures(
    name: str, limits: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", name, *SMALL, *QUICK, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    shares = {f"share_of_{limit}" for limit in limits}
    expected = {"sampling": {"with_policy", *limits, *shares}, **FIGURES}
    assert {phase: set(found) for phase, found in result["phases"].items()} == expected
    for figures in (*result["phases"].values(), result["memory"]):
        check(figures)
    assert (result["preset"], result["rounds"]) == (name, 2)
    assert result["config"]["tasks_per_update"] == 2
    assert {"cpu", "platform", "command", "started", "versions"} <= result["system"].keys()
    shares_of_time = ("acting", "stepping", "adaptation", "update")
    whole = [result["phases"]["iteration"][kind]["median"] for kind in shares_of_time]
    # Two rounds: the median is their mean, and means of shares add up as the shares do.
    assert sum(whole) == pytest.approx(1.0)


def test_import_is_timed_in_fresh_interpreters() -> None:
    figures = bench_import(preset(BANDIT), 1)
    assert figures.keys() == {"metarl", "torch"}
    check({name: entry._asdict() for name, entry in figures.items()})


def test_replayed_controls_lead_where_the_policy_led() -> None:
    small = preset(CHEETAH)
    small = replace(small, tasks_per_update=2, episodes=3, env=replace(small.env, horizon=7))
    sampled = first_round(small)
    env = sampled.parts.env
    assert isinstance(env, MujocoEnv)
    recorded = record_physics(env, sampled)
    assert recorded.controls.shape == (7, 6, 6)
    assert recorded.running.shape == (6, 7)
    assert np.ptp(recorded.controls, axis=0).all()
    physics = env.copy_physics()
    for _ in range(2):
        replay(physics, recorded)
        assert np.array_equal(physics.qpos, env.physics.qpos)
        assert np.array_equal(physics.qvel, env.physics.qvel)


def test_what_is_written_is_what_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    flags = [*SMALL, "--phases", "update", "--out", str(out)]
    assert main(["bench", BANDIT, *flags, "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(out.read_text()) == json.loads(shown.out)
    assert shown.err == "measuring update ...\n"
    assert main(["bench", BANDIT, *flags, "--compare", str(out)]) == 0
    table = capsys.readouterr().out
    assert "medians of 2 rounds" in table
    assert f"beside {out}" in table
    assert "old / new" in table
    content = json.loads(out.read_text())
    assert set(content["comparison"]["figures"]["update"]) == {"meta_update"}
    assert content["comparison"]["same_machine"] is True
    assert content["comparison"]["notes"] == []


def test_unknown_phases_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["bench", BANDIT, "--phases", "smapling"])
    assert leaving.value.code == 2
    assert "sampling" in capsys.readouterr().err
