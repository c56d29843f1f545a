"""Humanoid: reward, falls and observation by hand, lists of tasks."""

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.envs.humanoid import HumanoidDirConfig
from metarl.envs.mujoco_env import MujocoEnv
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import Tasks
from tests.envs.bodies import step_all

DIR = "metarl/HumanoidDir-v0"
STREAMS = Streams(3, ("humanoid",))
HEADINGS = [[-1.0, 0.0], [0.6, 0.8]]


def build(config: HumanoidDirConfig) -> tuple[TaskDistribution, MujocoEnv]:
    distribution, env = envs.build(DIR, config, threads=1)
    assert isinstance(env, MujocoEnv)
    return distribution, env


def start(scale: float = 1.0) -> tuple[MujocoEnv, Tensor]:
    """Two copies each of two tasks, and what they see first."""
    _, env = build(HumanoidDirConfig(action_scale=scale))
    tasks = Tasks(torch.full((2,), -1), {"heading": torch.tensor(HEADINGS)})
    return env, env.reset(tasks, 2, STREAMS)


def alone(env: MujocoEnv, copy: int) -> mujoco.MjData:
    data = mujoco.MjData(env.physics.model)
    data.qpos[:], data.qvel[:] = env.physics.qpos[copy], env.physics.qvel[copy]
    mujoco.mj_forward(env.physics.model, data)
    return data


def centre(data: mujoco.MjData, model: mujoco.MjModel) -> np.ndarray:
    moments = [m * position for m, position in zip(model.body_mass, data.xipos, strict=True)]
    place: np.ndarray = sum(moments, np.zeros(3))[:2] / model.body_mass.sum()
    return place


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_reward_by_hand(scale: float) -> None:
    """Each copy beside an ``MjData`` of its own, stepped by MuJoCo."""
    env, _ = start(scale)
    model, headings = env.physics.model, np.repeat(HEADINGS, 2, axis=0)
    others = [alone(env, copy) for copy in range(4)]
    for time in range(10):
        action = 1.5 * scale * STREAMS.normal(f"action {time}", 2, (2, 17))
        assert (action.abs() > scale).any()
        step = step_all(env, action)
        share = np.clip(action.double().reshape(4, 17).numpy() / scale, -1, 1)
        np.testing.assert_allclose(env.physics.ctrl, 0.4 * share, atol=1e-7)
        for copy, data in enumerate(others):
            before = centre(data, model)
            data.ctrl[:] = env.physics.ctrl[copy]
            mujoco.mj_step(model, data, 5)
            velocity = (centre(data, model) - before) / 0.015
            cost = 0.1 * ((0.4 * share[copy]) ** 2).sum()
            expected = 1.25 * velocity @ headings[copy] - cost + 5.0
            assert step.reward.flatten()[copy].item() == pytest.approx(expected, abs=1e-5)


def test_the_first_observation() -> None:
    """Every part at its place; the derived ones as MuJoCo has them for that state."""
    env, obs = start()
    assert obs.shape == (2, 2, 292) == (2, 2, env.spec.observation_size)
    for copy, row in enumerate(obs.flatten(0, 1).numpy()):
        data = alone(env, copy)
        parts = [data.qpos[2:], data.qvel, data.cinert, data.cvel, data.qfrc_actuator]
        expected = np.concatenate([part.flatten() for part in parts])
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-9)
    for start_of_zeros, length in ((45, 10), (185, 6), (269, 6)):
        assert (obs[..., start_of_zeros : start_of_zeros + length] == 0).all()
    mass = obs[0, 0, 45:185].reshape(14, 10)[:, 9]
    np.testing.assert_allclose(mass, env.physics.model.body_mass, rtol=1e-6)


def test_ends_where_the_torso_is_too_low_or_too_high() -> None:
    env, _ = start()
    qpos = np.tile(env.physics.model.qpos0, (4, 1))
    # Held in the air it falls by 1 mm in a step; lying low, on its back, it would be pushed up.
    qpos[:, 2] = [1.0, 1.01, 1.99, 2.01]
    qpos[0, 2], qpos[0, 3:7] = 0.9, [0.7071, 0.0, -0.7071, 0.0]
    qpos[1, 3:7] = [0.7071, 0.0, -0.7071, 0.0]
    env.physics.reset(qpos, np.zeros((4, 23)))
    step = step_all(env, torch.zeros(2, 2, 17))
    assert np.abs(env.physics.qpos[:, 2] - qpos[:, 2]).max() < 0.009
    assert step.terminated.flatten().tolist() == [True, False, False, True]
    env.physics.qpos[:, 2] = [1.0, 2.0, np.nextafter(1.0, 0), np.nextafter(2.0, 3)]
    assert env.body.unhealthy is not None
    assert env.body.unhealthy(env.physics).tolist() == [False, False, True, True]


def test_a_copy_that_starts_again_sees_its_new_state() -> None:
    """Derived fields of the others stay; those of the copy are the new start's."""
    env, _ = start()
    for time in range(5):
        before = step_all(env, STREAMS.normal(f"action {time}", 2, (2, 17))).obs
    copies = torch.tensor([[True, False], [False, False]])
    obs = env.restart(copies, STREAMS.at("again"))
    assert torch.equal(obs[~copies], before[~copies])
    data = alone(env, 0)
    np.testing.assert_allclose(obs[0, 0, 45:185], data.cinert.flatten(), rtol=1e-6, atol=1e-9)


def test_lists_of_headings() -> None:
    distribution, _ = build(HumanoidDirConfig())
    drawn, held_out = distribution.sample(3000, STREAMS), distribution.held_out(30)
    assert torch.unique(drawn.task_id).tolist() == list(range(100))
    assert held_out.task_id.tolist() == list(range(100, 130))
    heading = torch.cat((drawn.parameter["heading"], held_out.parameter["heading"])).double()
    assert (heading.norm(dim=-1) - 1).abs().max() < 1e-6
    train = {tuple(heading) for heading in drawn.parameter["heading"].tolist()}
    test = {tuple(heading) for heading in held_out.parameter["heading"].tolist()}
    assert (len(train), len(test), len(train & test)) == (100, 30, 0)
    endless, _ = build(HumanoidDirConfig(num_train_tasks=0, num_test_tasks=0))
    assert (endless.sample(3, STREAMS).task_id == -1).all()
