"""Ant, humanoid and swimmer against Gymnasium's: equal models, motion, observations, payments."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
import numpy as np
import pytest
import torch

from metarl import envs
from metarl.envs.mujoco_env import MujocoEnv
from metarl.seeding import Streams
from tests.envs.bodies import gymnasium_env, gymnasium_model, step_all, step_beside

STREAMS = Streams(3, ("free bodies",))


class Pair(NamedTuple):
    name: str
    xml: str
    theirs: str
    touches: bool
    """Whether it meets the ground."""


ANT = Pair("metarl/AntDir-v0", "ant.xml", "Ant-v5", True)
HUMANOID = Pair("metarl/HumanoidDir-v0", "humanoid.xml", "Humanoid-v5", True)
SWIMMER = Pair("metarl/SwimmerVel-v0", "swimmer.xml", "Swimmer-v5", False)
every_pair = pytest.mark.parametrize("pair", [ANT, HUMANOID, SWIMMER], ids=lambda pair: pair.theirs)

FIELDS = """
body_parentid body_pos body_quat body_ipos body_iquat body_mass body_inertia body_subtreemass
jnt_type jnt_bodyid jnt_pos jnt_axis jnt_limited jnt_range jnt_stiffness jnt_margin jnt_solref
jnt_solimp dof_armature dof_damping dof_frictionloss qpos0 qpos_spring geom_type geom_bodyid
geom_pos geom_quat geom_size geom_friction geom_margin geom_gap geom_condim geom_contype
geom_conaffinity geom_solref geom_solimp geom_priority actuator_trnid actuator_gear
actuator_ctrllimited actuator_ctrlrange actuator_gainprm actuator_biastype actuator_dyntype
actuator_forcelimited
"""
OPTIONS = """
timestep integrator solver iterations tolerance ls_iterations cone jacobian impratio gravity
density viscosity wind enableflags disableflags
"""


def start(pair: Pair, copies: int = 1) -> MujocoEnv:
    config: Any = envs.preset(pair.name)
    distribution, env = envs.build(pair.name, replace(config, action_scale=1.0), threads=1)
    assert isinstance(env, MujocoEnv)
    env.reset(distribution.held_out(copies), 1, STREAMS)
    return env


@every_pair
def test_the_model_is_gymnasiums(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The humanoid's tendons are left out: nothing pulls on them, and nothing reads them."""
    theirs = gymnasium_model(pair.xml, tmp_path, monkeypatch)
    ours = start(pair).physics.model
    for field in FIELDS.split():
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field), field)
    for option in OPTIONS.split():
        np.testing.assert_array_equal(
            getattr(ours.opt, option), getattr(theirs.opt, option), option
        )


@every_pair
def test_moves_like_gymnasiums(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 steps on end at full torque, and no need to synchronise: the models are equal to the
    last bit."""
    model = gymnasium_model(pair.xml, tmp_path, monkeypatch)
    env = start(pair)
    contacts = step_beside(env, model, STREAMS)
    assert np.abs(env.physics.qvel).max() > 0.1
    assert (contacts > 0) == pair.touches


def as_published(pair: Pair, obs: Any, info: Any, velocity: Any, task: Any) -> tuple[Any, float]:
    """Observation and reward of our presets, from what Gymnasium's step returned and moved by."""
    if pair == SWIMMER:
        return obs, info["reward_ctrl"] - abs(velocity[0] - task)
    if pair == ANT:
        return obs[:27], info["reward_ctrl"] + velocity @ task + 1.0
    # Gymnasium leaves out the world's rows and the motors of the torso, all of them zero.
    position, inertia, speed, force = np.split(obs[:270], [45, 175, 253])
    seen = (position, np.zeros(10), inertia, np.zeros(6), speed, np.zeros(6), force)
    velocity = np.array([info["x_velocity"], info["y_velocity"]])
    return np.concatenate(seen), info["reward_ctrl"] + 1.25 * velocity @ task + 5.0


@every_pair
def test_observes_pays_and_ends_like_gymnasiums(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Gymnasium pays by other weights, or observes besides, is taken apart."""
    other = gymnasium_env(pair.theirs, tmp_path, monkeypatch)
    env = start(pair, copies=2)
    mujoco.mj_resetData(other.model, other.data)
    other.set_state(env.physics.qpos[1].copy(), env.physics.qvel[1].copy())
    (task,) = envs.build(pair.name, threads=1)[0].held_out(2).parameter.values()
    largest, ended = other.model.actuator_ctrlrange[:, 1], []
    for time in range(100):
        action = STREAMS.normal(f"action {time}", 1, (1, env.spec.action_size)).expand(2, 1, -1)
        before = other.data.qpos[:2].copy()
        step = step_all(env, action)
        share = np.clip(action[1, 0].double().numpy(), -1, 1)
        obs, _, terminated, _, info = other.step(share * largest)
        velocity = (other.data.qpos[:2] - before) / other.dt
        seen, paid = as_published(pair, obs, info, velocity, task[1].double().numpy())
        np.testing.assert_allclose(step.obs[1, 0], seen, rtol=1e-6, atol=1e-6)
        assert step.reward[1, 0].item() == pytest.approx(paid, abs=1e-5)
        assert step.terminated[1, 0].item() == terminated
        ended.append(terminated)
    assert not ended[0]
    assert ended[-1] == (pair == HUMANOID)


@pytest.mark.parametrize(
    ("pair", "positions", "speeds", "normal"),
    [(ANT, 0.1, 0.1, True), (HUMANOID, 0.01, 0.01, False), (SWIMMER, 0.1, 0.1, False)],
    ids=lambda value: getattr(value, "theirs", None),
)
def test_starts_spread_around_the_pose_of_the_model(
    pair: Pair, positions: float, speeds: float, normal: bool
) -> None:
    env = start(pair, copies=30)
    env.reset(envs.build(pair.name, threads=1)[0].held_out(30), 50, STREAMS)
    qpos, qvel = env.physics.qpos - env.physics.model.qpos0, env.physics.qvel
    assert env.physics.model.qpos0[2] == {ANT: 0.75, HUMANOID: 1.4, SWIMMER: 0.0}[pair]
    for noise, size, gaussian in ((qpos, positions, False), (qvel, speeds, normal)):
        n, spread = noise.size, size if gaussian else size / 3**0.5
        assert (np.abs(noise).max() > 3 * size) == gaussian
        assert gaussian or 0.99 * size < np.abs(noise).max() <= size
        assert abs(noise.mean()) < 5 * spread / n**0.5
        assert noise.std() == pytest.approx(spread, rel=5 * (0.5 / n) ** 0.5)
    correlation = np.corrcoef(np.concatenate((qpos, qvel), 1).T)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / len(qpos) ** 0.5


@every_pair
def test_hard_shaking_ends_no_number(pair: Pair) -> None:
    """Full torques that change sign at every step: nothing that is said is NaN."""
    env = start(pair, copies=5)
    for time in range(200):
        step = step_all(env, torch.full((5, 1, env.spec.action_size), 9.0 * (-1) ** time))
        assert torch.isfinite(step.obs).all()
        assert torch.isfinite(step.reward).all()
        assert not step.faulty.any()
