"""Half-cheetah of unknown build: its reward by hand, and what its presets vary."""

import numpy as np
import pytest
import torch

from metarl import envs
from metarl.envs.mujoco_env import MujocoEnv
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams

NAME = "metarl/HalfCheetahRandParams-v0"
STREAMS = Streams(4, ("half-cheetah params",))
VARIED: dict[str, dict[str, tuple[int, ...]]] = {
    "default": {"body_mass": (8,), "geom_friction": (9, 3), "dof_damping": (9,)},
    "mass": {"body_mass": (8,)},
    "damping": {"dof_damping": (9,)},
}


def build(preset: str) -> tuple[TaskDistribution, MujocoEnv]:
    distribution, env = envs.build(NAME, envs.preset(NAME, preset), threads=1)
    assert isinstance(env, MujocoEnv)
    return distribution, env


@pytest.mark.parametrize("preset", VARIED)
def test_reward_by_hand(preset: str) -> None:
    distribution, env = build(preset)
    env.reset(distribution.held_out(3), 2, STREAMS)
    for time in range(20):
        action = 1.5 * STREAMS.normal(f"action {time}", 3, (2, 6))
        before = env.physics.qpos[:, 0].copy()
        step = env.step(action, torch.ones(3, 2, dtype=torch.bool))
        torque = np.clip(action.double().numpy().reshape(6, 6), -1.0, 1.0)
        expected = (env.physics.qpos[:, 0] - before) / 0.05 - 0.05 * (torque**2).sum(1)
        np.testing.assert_allclose(step.reward.flatten(), expected, atol=1e-5)
        assert not step.terminated.any()
    assert step.obs.shape == (3, 2, 17)


@pytest.mark.parametrize("preset", VARIED)
def test_what_each_preset_varies(preset: str) -> None:
    distribution, env = build(preset)
    tasks = distribution.sample(4, STREAMS)
    assert {name: tuple(leaf.shape[1:]) for name, leaf in tasks.parameter.items()} == VARIED[preset]
    env.reset(tasks, 1, STREAMS)
    varying = {*VARIED[preset]} | ({"body_inertia"} if "body_mass" in VARIED[preset] else set())
    for field in ("body_mass", "body_inertia", "geom_friction", "dof_damping", "jnt_stiffness"):
        same = np.array_equal(env.physics.expand(field), np.stack([env.physics.nominal(field)] * 4))
        assert same == (field not in varying), field
