"""The throughput of environments: every row of the table, and that both sides do the same work."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from metarl import envs
from metarl.envs.mujoco_env import MujocoEnv
from metarl.experiments.bench.envs import Walk
from metarl.experiments.cli import main
from metarl.seeding import Streams

SMALL = ["--copies", "3", "--tensor-copies", "5", "--rounds", "2", "--round-s", "0.001"]


def test_every_environment_has_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "envs.json"
    assert main(["bench", "envs", *SMALL, "--threads", "1", "--json", "--out", str(out)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(out.read_text(encoding="utf-8"))
    assert [row["name"] for row in result["environments"]] == list(envs.ENVS)
    for row in result["environments"]:
        figures = row["figures"]
        in_mujoco = row["copies"] == 3
        assert set(figures) == (
            {"environment", "physics", "share"} if in_mujoco else {"environment"}
        )
        assert all(
            0 < entry["low"] <= entry["median"] <= entry["high"] for entry in figures.values()
        )


def test_the_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "envs", "--only", "metarl/HalfCheetahDir-v0", *SMALL]) == 0
    shown = capsys.readouterr().out
    assert "HalfCheetah" in shown
    assert "promp-2019" in shown
    assert "Bandit" not in shown


def test_an_unknown_environment_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "envs", "--only", "HalfCheetahDri-v0"]) == 2
    assert "did you mean 'metarl/HalfCheetahDir-v0'" in capsys.readouterr().err


def test_physics_of_its_own_goes_where_the_environment_goes() -> None:
    distribution, env = envs.build("metarl/HalfCheetahDir-v0", threads=1)
    assert isinstance(env, MujocoEnv)
    actions = 10.0 * torch.rand(4, 3, 1, 6) - 5.0
    walk = Walk(env, distribution.sample(3, Streams(0)), actions)
    assert walk.num_steps == 12
    walk.start()
    physics = env.copy_physics()
    walk.go()
    for action in actions:
        physics.ctrl[:] = (action[:, 0] / 10.0).numpy()
        physics.step()
    np.testing.assert_array_equal(physics.qpos, env.physics.qpos)
