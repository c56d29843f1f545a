"""Half-cheetah: aligned with Gymnasium's, rewards and observations by hand, lists of tasks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch

from metarl import envs
from metarl.envs.half_cheetah import HalfCheetahDirConfig, HalfCheetahVelConfig
from metarl.envs.mujoco_env import MujocoEnv
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import Tasks
from tests.envs.bodies import gymnasium_env, gymnasium_model, step_all, step_beside

DIR, VEL = "metarl/HalfCheetahDir-v0", "metarl/HalfCheetahVel-v0"
STREAMS = Streams(3, ("half-cheetah",))


def build(name: str, config: Any) -> tuple[TaskDistribution, MujocoEnv]:
    distribution, env = envs.build(name, config, threads=1)
    assert isinstance(env, MujocoEnv)
    return distribution, env


def tasks(**parameter: list[float]) -> Tasks:
    leaves = {name: torch.tensor(values) for name, values in parameter.items()}
    return Tasks(torch.full((len(next(iter(leaves.values()))),), -1), leaves)


@pytest.mark.parametrize(("size", "follow"), [(1.0, False), (0.1, True)])
def test_moves_like_gymnasiums(
    size: float, follow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution, env = build(DIR, HalfCheetahDirConfig(action_scale=1.0))
    env.reset(distribution.held_out(1), 1, STREAMS)
    model = gymnasium_model("half_cheetah.xml", tmp_path, monkeypatch)
    assert step_beside(env, model, STREAMS, size, follow) > 0


def test_pays_and_observes_like_gymnasiums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = gymnasium_env("HalfCheetah-v5", tmp_path, monkeypatch)
    distribution, env = build(DIR, HalfCheetahDirConfig(action_scale=1.0))
    env.reset(distribution.held_out(2), 1, STREAMS)
    for time in range(100):
        action = STREAMS.normal(f"action {time}", 1, (1, 6)).expand(2, 1, 6)
        other.set_state(env.physics.qpos[1].copy(), env.physics.qvel[1].copy())
        step = step_all(env, action)
        obs, _, terminated, _, info = other.step(action[1, 0].clamp(-1, 1).numpy())
        assert not terminated
        np.testing.assert_allclose(step.obs[1, 0], obs, rtol=1e-6, atol=1e-6)
        expected = info["x_velocity"] + 0.5 * info["reward_ctrl"]
        assert step.reward[1, 0].item() == pytest.approx(expected, abs=1e-5)


def by_hand(env: MujocoEnv, before: np.ndarray, action: np.ndarray, scale: float) -> Any:
    """Velocity and control cost of each copy, from the positions and the formula."""
    velocity = (env.physics.qpos[:, 0] - before) / 0.05
    torque = np.minimum(np.maximum(action.reshape(-1, 6) / scale, -1.0), 1.0)
    return velocity, 0.05 * (torque**2).sum(1), torque


@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("name", [DIR, VEL])
def test_rewards_by_hand(name: str, scale: float) -> None:
    config: Any = envs.preset(name)
    _, env = build(name, replace(config, action_scale=scale))
    goals = np.array([-1.0, 1.0]) if name == DIR else np.array([0.0, 2.5])
    key = "direction" if name == DIR else "velocity"
    env.reset(tasks(**{key: goals.tolist()}), 2, STREAMS)
    goals = goals.repeat(2)
    for time in range(10):
        action = 1.5 * scale * STREAMS.normal(f"action {time}", 2, (2, 6))
        assert (action.abs() > scale).any()
        before = env.physics.qpos[:, 0].copy()
        step = step_all(env, action)
        velocity, cost, torque = by_hand(env, before, action.double().numpy(), scale)
        np.testing.assert_allclose(env.physics.ctrl, torque, atol=1e-6)
        progress = goals * velocity if name == DIR else -np.abs(velocity - goals)
        np.testing.assert_allclose(step.reward.flatten(), progress - cost, atol=1e-5)
        assert not step.terminated.any()


def test_an_action_of_ten_is_the_full_torque() -> None:
    for scale, size in ((10.0, 10.0), (1.0, 1.0), (1.0, 99.0)):
        _, env = build(DIR, HalfCheetahDirConfig(action_scale=scale))
        env.reset(tasks(direction=[1.0]), 1, STREAMS)
        before = env.physics.qpos[0, 0]
        step = step_all(env, torch.full((1, 1, 6), size))
        np.testing.assert_array_equal(env.physics.ctrl, np.ones((1, 6)))
        velocity = (env.physics.qpos[0, 0] - before) / 0.05
        assert step.reward.item() == pytest.approx(velocity - 0.3, abs=1e-5)


@pytest.mark.parametrize(("torso", "size"), [(False, 17), (True, 20)])
def test_layout_of_the_observation(torso: bool, size: int) -> None:
    distribution, env = build(DIR, HalfCheetahDirConfig(observe_torso=torso))
    env.reset(distribution.held_out(2), 2, STREAMS)
    for time in range(20):
        obs = step_all(env, 10 * STREAMS.normal(f"action {time}", 2, (2, 6))).obs
    physics = env.physics
    assert obs.shape == (2, 2, size) == (2, 2, env.spec.observation_size)
    data = mujoco.MjData(physics.model)
    for copy, row in enumerate(obs.flatten(0, 1).numpy()):
        data.qpos[:], data.qvel[:] = physics.qpos[copy], physics.qvel[copy]
        mujoco.mj_forward(physics.model, data)
        np.testing.assert_array_equal(row[:8], data.qpos[1:].astype(np.float32))
        np.testing.assert_array_equal(row[8:17], data.qvel.astype(np.float32))
        if torso:
            np.testing.assert_allclose(row[17:], data.body("torso").xpos, rtol=1e-6, atol=1e-7)
    assert obs[..., 0].abs().max() > 1e-3


def test_starts_spread_around_the_body_at_rest() -> None:
    distribution, env = build(DIR, HalfCheetahDirConfig())
    env.reset(distribution.held_out(20), 50, STREAMS)
    qpos, qvel = env.physics.qpos, env.physics.qvel
    n = qpos.size
    assert np.abs(qpos).max() <= 0.1
    assert np.abs(qpos).max() > 0.0995
    spread = 0.2 / 12**0.5
    assert abs(qpos.mean()) < 5 * spread / n**0.5
    assert qpos.std() == pytest.approx(spread, rel=5 * (0.2 / n) ** 0.5)
    assert abs(qvel.mean()) < 5 * 0.1 / n**0.5
    assert qvel.std() == pytest.approx(0.1, rel=5 * (0.5 / n) ** 0.5)
    correlation = np.corrcoef(np.concatenate((qpos, qvel), 1).T) - np.eye(18)
    assert np.abs(correlation).max() < 5 / len(qpos) ** 0.5


def test_directions() -> None:
    distribution, _ = build(DIR, HalfCheetahDirConfig())
    held_out = distribution.held_out(5)
    assert held_out.task_id.tolist() == [0, 1, 0, 1, 0]
    assert held_out.parameter["direction"].tolist() == [-1, 1, -1, 1, -1]
    drawn = distribution.sample(2000, STREAMS)
    forwards = drawn.parameter["direction"] == 1
    assert set(drawn.parameter["direction"].tolist()) == {-1.0, 1.0}
    assert torch.equal(drawn.task_id, forwards.long())
    assert abs(forwards.float().mean() - 0.5) < 5 * 0.5 / 2000**0.5


@pytest.mark.parametrize("largest", [2.0, 3.0])
def test_velocities(largest: float) -> None:
    distribution, _ = build(VEL, HalfCheetahVelConfig(max_velocity=largest))
    drawn = distribution.sample(2000, STREAMS)
    velocity = drawn.parameter["velocity"] / largest
    assert (drawn.task_id == -1).all()
    assert velocity.min() >= 0
    assert 0.99 < velocity.max() < 1
    assert abs(velocity.mean() - 0.5) < 5 / (12 * 2000) ** 0.5


def test_pearls_lists() -> None:
    distribution, _ = build(VEL, envs.preset(VEL, "pearl-2019"))
    drawn, held_out = distribution.sample(3000, STREAMS), distribution.held_out(30)
    assert torch.unique(drawn.task_id).tolist() == list(range(100))
    assert held_out.task_id.tolist() == list(range(100, 130))
    table: dict[int, set[float]] = {}
    for task_id, velocity in zip(
        drawn.task_id.tolist(), drawn.parameter["velocity"].tolist(), strict=True
    ):
        table.setdefault(task_id, set()).add(velocity)
    assert all(len(velocities) == 1 for velocities in table.values())
    train = set.union(*table.values())
    test = set(held_out.parameter["velocity"].tolist())
    assert (len(train), len(test), len(train & test)) == (100, 30, 0)
    assert all(0 <= velocity < 3 for velocity in train | test)


def test_a_list_of_test_tasks_goes_with_one_of_training_tasks() -> None:
    config: Any = envs.preset(VEL, "pearl-2019")
    for change in ({"num_train_tasks": 0}, {"num_test_tasks": 0}):
        with pytest.raises(ValueError, match=r"num_test_tasks must be 0 exactly when"):
            replace(config, **change)
