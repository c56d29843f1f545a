"""Reacher: goals, rewards, observations and starts by hand."""

import math
from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
import pytest
import torch

from metarl import envs
from metarl.envs.mujoco_env import MujocoEnv
from metarl.envs.reacher import ReacherGoalConfig
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import Tasks
from tests.envs.bodies import step_all

NAME = "metarl/ReacherGoal-v0"
STREAMS = Streams(9, ("reacher",))


def build(**changes: Any) -> tuple[TaskDistribution, MujocoEnv]:
    config = ReacherGoalConfig(**changes)
    distribution, env = envs.build(NAME, config, threads=1)
    assert isinstance(env, MujocoEnv)
    return distribution, env


def goal_tasks(*goals: tuple[float, float]) -> Tasks:
    return Tasks(torch.full((len(goals),), -1), {"goal": torch.tensor(goals)})


def pose(env: MujocoEnv, *angles: tuple[float, float]) -> None:
    """Put each arm at rest in a pose; its goal stays."""
    qpos, qvel = env.physics.qpos.copy(), np.zeros_like(env.physics.qvel)
    qpos[:, :2] = angles
    env.physics.reset(qpos, qvel)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_rewards_by_hand(scale: float, sparse: bool) -> None:
    _, env = build(action_scale=scale, sparse=sparse)
    tasks = goal_tasks((0.0, 0.1), (-0.05, -0.15))
    env.reset(tasks, 2, STREAMS)
    goals = tasks.parameter["goal"].double().numpy().repeat(2, 0)
    data = mujoco.MjData(env.physics.model)
    for time in range(20):
        action = 1.5 * scale * STREAMS.normal(f"action {time}", 2, (2, 2))
        step = step_all(env, action)
        share = np.clip(action.double().numpy().reshape(4, 2) / scale, -1.0, 1.0)
        np.testing.assert_allclose(env.physics.ctrl, share, atol=1e-6)
        for copy in range(4):
            data.qpos[:] = env.physics.qpos[copy]
            mujoco.mj_forward(env.physics.model, data)
            tip = data.body("fingertip").xpos[:2]
            gap = math.dist(tip, goals[copy])
            dense = -gap - 0.1 * (share[copy] ** 2).sum()
            expected = float(gap <= 0.02) if sparse else dense
            assert step.reward.flatten()[copy].item() == pytest.approx(expected, abs=1e-6)
            assert step.success is not None
            assert step.success.flatten()[copy].item() == (gap <= 0.02)
            assert step.obs.flatten(0, 1)[copy, 6:].numpy() == pytest.approx(tip, abs=1e-6)
        assert not step.terminated.any()


def test_success_is_within_two_centimetres() -> None:
    inside, outside = 0.21 - 0.0199, 0.21 - 0.0201
    for sparse in (False, True):
        _, env = build(sparse=sparse)
        env.reset(goal_tasks((inside, 0.0), (outside, 0.0)), 1, STREAMS)
        pose(env, (0.0, 0.0), (0.0, 0.0))
        step = step_all(env, torch.zeros(2, 1, 2))
        assert step.success is not None
        assert step.success.flatten().tolist() == [True, False]
        expected = [1.0, 0.0] if sparse else [-0.0199, -0.0201]
        assert step.reward.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_a_goal_at_the_shoulder_is_met_by_the_folded_arm() -> None:
    _, env = build()
    env.reset(goal_tasks((0.0, 0.0)), 1, STREAMS)
    pose(env, (0.4, 3.0))
    step = step_all(env, torch.zeros(1, 1, 2))
    assert step.success is not None
    assert step.success.item()
    assert -0.02 < step.reward.item() < -0.0175


def test_layout_of_the_observation() -> None:
    _, env = build()
    env.reset(goal_tasks((0.1, 0.1)), 1, STREAMS)
    for time in range(10):
        obs = step_all(env, STREAMS.normal(f"action {time}", 1, (1, 2))).obs[0, 0].numpy()
    shoulder, elbow = env.physics.qpos[0, :2]
    cosines = [math.cos(shoulder), math.cos(elbow), math.sin(shoulder), math.sin(elbow)]
    np.testing.assert_allclose(obs[:4], cosines, rtol=1e-6)
    np.testing.assert_array_equal(obs[4:6], env.physics.qvel[0, :2].astype(np.float32))
    assert obs.shape == (8,)


def test_the_picture_shows_the_goal() -> None:
    """The goal's body lies where the goal is, and stays there."""
    distribution, env = build()
    tasks = distribution.held_out(5)
    env.reset(tasks, 3, STREAMS)
    goals = tasks.parameter["goal"].double().numpy().repeat(3, 0)
    for time in range(50):
        np.testing.assert_array_equal(env.physics.qpos[:, 2:], goals)
        assert not env.physics.qvel[:, 2:].any()
        step_all(env, STREAMS.normal(f"action {time}", 5, (3, 2)))
    data = mujoco.MjData(env.physics.model)
    data.qpos[:] = env.physics.qpos[4]
    mujoco.mj_forward(env.physics.model, data)
    np.testing.assert_allclose(data.body("goal").xpos[:2], goals[4], atol=1e-12)


def test_starts() -> None:
    distribution, env = build()
    env.reset(distribution.held_out(20), 50, STREAMS)
    for state, size in ((env.physics.qpos[:, :2], 0.1), (env.physics.qvel[:, :2], 0.005)):
        n = state.size
        assert 0.99 * size < np.abs(state).max() <= size
        assert abs(state.mean()) < 5 * size / (3 * n) ** 0.5
        assert state.std() == pytest.approx(size / 3**0.5, rel=5 * (0.2 / n) ** 0.5)


def test_goals_are_uniform_in_their_disc() -> None:
    distribution, _ = build()
    goals = distribution.sample(4000, STREAMS).parameter["goal"].double()
    share = (torch.linalg.vector_norm(goals, dim=-1) / 0.2) ** 2
    turn = torch.atan2(goals[:, 1], goals[:, 0]) / (2.0 * math.pi) + 0.5
    assert share.max() <= 1.0 + 1e-6
    for uniform in (share, turn):
        assert abs(uniform.mean() - 0.5) < 5 / (12 * 4000) ** 0.5
        assert uniform.std().item() == pytest.approx(12**-0.5, rel=5 * (0.2 / 4000) ** 0.5)
    assert abs(np.corrcoef(share.numpy(), turn.numpy())[0, 1]) < 5 / 4000**0.5


def test_shifted_goals_lie_outside_and_in_reach() -> None:
    distribution, _ = build(goal_radius=0.15)
    train, shifted = (
        torch.linalg.vector_norm(tasks.parameter["goal"], dim=-1)
        for tasks in (distribution.sample(500, STREAMS), distribution.held_out(500, "shifted"))
    )
    assert 0.14 < train.max() <= 0.15 + 1e-6
    assert 0.15 - 1e-6 <= shifted.min() < 0.155
    assert 0.205 < shifted.max() <= 0.21 + 1e-6


def test_goals_out_of_reach_are_refused() -> None:
    distribution, _ = build()
    fault = distribution.parameters["goal"].fault
    assert fault is not None
    assert fault(torch.tensor([0.0, 0.21])) is None
    assert "this one is 0.2828 m away" in str(fault(torch.tensor([0.2, 0.2])))
    with pytest.raises(ValueError, match=r"goal_radius must be a number above 0 and below 0.21"):
        replace(ReacherGoalConfig(), goal_radius=0.21)
