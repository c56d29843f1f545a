"""Swimmer: reward and observation by hand; tasks."""

import numpy as np
import pytest
import torch

from metarl import envs
from metarl.envs.mujoco_env import MujocoEnv
from metarl.envs.swimmer import SwimmerVelConfig
from metarl.seeding import Streams
from metarl.types import Tasks

VEL = "metarl/SwimmerVel-v0"
STREAMS = Streams(3, ("swimmer",))
RUNNING = torch.ones(2, 2, dtype=torch.bool)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_reward_and_observation_by_hand(scale: float) -> None:
    _, env = envs.build(VEL, SwimmerVelConfig(action_scale=scale), threads=1)
    assert isinstance(env, MujocoEnv)
    goals = torch.tensor([0.0, 0.15])
    env.reset(Tasks(torch.full((2,), -1), {"velocity": goals}), 2, STREAMS)
    for time in range(20):
        action = 1.5 * scale * STREAMS.normal(f"action {time}", 2, (2, 2))
        before = env.physics.qpos[:, 0].copy()
        step = env.step(action, RUNNING)
        share = np.clip(action.double().reshape(4, 2).numpy() / scale, -1, 1)
        velocity = (env.physics.qpos[:, 0] - before) / 0.04
        miss = np.abs(velocity - goals.double().numpy().repeat(2))
        expected = -miss - 0.0001 * (share**2).sum(1)
        np.testing.assert_allclose(step.reward.flatten(), expected, atol=1e-6)
        state = np.concatenate((env.physics.qpos, env.physics.qvel), 1).astype(np.float32)
        np.testing.assert_array_equal(step.obs.flatten(0, 1), state[:, 2:])
        assert not step.terminated.any()
    assert np.abs(env.physics.qpos).max() > 0.1


def test_velocities_and_those_beyond() -> None:
    distribution, _ = envs.build(VEL, threads=1)
    inside = distribution.sample(2000, STREAMS).parameter["velocity"]
    beyond = distribution.held_out(2000, "shifted").parameter["velocity"]
    assert 0.0 <= inside.min() < 0.001
    assert 0.199 < inside.max() < 0.2 <= beyond.min() < 0.201
    assert 0.299 < beyond.max() < 0.3
