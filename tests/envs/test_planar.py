"""Walker and hopper: rewards, ends, observations and starts by hand."""

import itertools
from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
import pytest
import torch

from metarl import envs
from metarl.envs import hopper, walker2d
from metarl.envs.mujoco_env import MujocoEnv
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import Tasks
from tests.envs.bodies import step_all

STREAMS = Streams(5, ("planar",))
FAMILIES = ("Walker2d", "Hopper")
LAYOUT = {"Walker2d": (17, 6, 100.0), "Hopper": (11, 3, 200.0)}
every_family = pytest.mark.parametrize("family", FAMILIES)


def build(family: str, kind: str, preset: str = "default") -> tuple[TaskDistribution, MujocoEnv]:
    name = f"metarl/{family}{kind}-v0"
    distribution, env = envs.build(name, envs.preset(name, preset), threads=1)
    assert isinstance(env, MujocoEnv)
    return distribution, env


def velocity_tasks(*goals: float) -> Tasks:
    return Tasks(torch.full((len(goals),), -1), {"velocity": torch.tensor(goals)})


@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("kind", ["RandParams", "Vel"])
@every_family
def test_rewards_by_hand(family: str, kind: str, scale: float) -> None:
    name = f"metarl/{family}{kind}-v0"
    preset: Any = envs.preset(name)
    distribution, env = envs.build(name, replace(preset, action_scale=scale), threads=1)
    assert isinstance(env, MujocoEnv)
    goals = np.array([0.0, 0.0, 2.5, 2.5])
    tasks = velocity_tasks(0.0, 2.5) if kind == "Vel" else distribution.held_out(2)
    env.reset(tasks, 2, STREAMS)
    size = env.spec.action_size
    for time in range(15):
        action = 1.5 * scale * STREAMS.normal(f"action {time}", 2, (2, size))
        before = env.physics.qpos[:, 0].copy()
        step = step_all(env, action)
        velocity = (env.physics.qpos[:, 0] - before) / 0.008
        share = np.clip(action.double().numpy().reshape(4, size) / scale, -1.0, 1.0)
        np.testing.assert_allclose(env.physics.ctrl, share, atol=1e-6)
        pay = velocity if kind == "RandParams" else -np.abs(velocity - goals)
        expected = pay + 1.0 - 0.001 * (share**2).sum(1)
        np.testing.assert_allclose(step.reward.flatten(), expected, atol=1e-5)
    assert (action.abs() > scale).any()


@every_family
def test_a_step_takes_eight_milliseconds_and_the_published_walkers_ten(family: str) -> None:
    for preset, longer in (("default", 0.008), ("pearl-2019", 0.010)):
        seconds = longer if family == "Walker2d" else 0.008
        assert build(family, "RandParams", preset)[1].physics.dt == pytest.approx(seconds)
    assert build(family, "Vel")[1].physics.dt == pytest.approx(0.008)


def set_state(env: MujocoEnv, **values: float) -> None:
    """Put the one copy at rest, but for some entries of qpos (q0, q1, ...) and qvel (v0, ...)."""
    qpos, qvel = env.physics.nominal("qpos0")[None].copy(), np.zeros((1, env.physics.qvel.shape[1]))
    for name, value in values.items():
        (qpos if name[0] == "q" else qvel)[0, int(name[1:])] = value
    env.physics.reset(qpos, qvel)


EDGE = 1e-9
WALKER_ENDS = [("q1", 0.8, 1), ("q1", 2.0, -1), ("q2", 1.0, -1), ("q2", -1.0, 1)]
HOPPER_ENDS = [("q1", 0.7, 1), ("q2", 0.2, -1), ("q2", -0.2, 1)]
HOPPER_ENDS += [(f"v{i}", side * 100.0, -side) for i in range(6) for side in (-1, 1)]
HOPPER_ENDS += [(f"q{i}", side * 100.0, -side) for i in (3, 4, 5) for side in (-1, 1)]
ENDS = [("Walker2d", *end) for end in WALKER_ENDS] + [("Hopper", *end) for end in HOPPER_ENDS]


@pytest.mark.parametrize(("family", "entry", "limit", "inwards"), ENDS)
def test_falls_at_the_limits(family: str, entry: str, limit: float, inwards: int) -> None:
    _, env = build(family, "Vel")
    env.reset(velocity_tasks(1.0), 1, STREAMS)
    has_fallen = {"Walker2d": walker2d.has_fallen, "Hopper": hopper.has_fallen}[family]
    for distance, fallen in ((EDGE, False), (0.0, True), (-EDGE, True)):
        set_state(env, **{entry: limit + inwards * distance})
        assert has_fallen(env.physics).tolist() == [fallen]


@every_family
def test_nothing_else_ends_an_episode(family: str) -> None:
    _, env = build(family, "Vel")
    env.reset(velocity_tasks(1.0), 1, STREAMS)
    has_fallen = {"Walker2d": walker2d.has_fallen, "Hopper": hopper.has_fallen}[family]
    wild = {"q0": 1e4, "v0": 99.0, "v3": -99.0, "q3": 3.0} | (
        {"q1": 5.0} if family == FAMILIES[1] else {}
    )
    for entry, value in wild.items():
        set_state(env, **{entry: value})
        assert has_fallen(env.physics).tolist() == [False]


@every_family
def test_an_episode_ends_with_the_fall_and_is_paid_for_its_step(family: str) -> None:
    _, env = build(family, "Vel")
    env.reset(velocity_tasks(0.0), 1, STREAMS)
    steepest = 1.0 if family == "Walker2d" else 0.2
    set_state(env, q1=1.6, q2=steepest - 0.01, v2=3.0)
    before = env.physics.qpos[0, 0]
    step = step_all(env, torch.zeros(1, 1, env.spec.action_size))
    assert env.physics.qpos[0, 2] > steepest
    assert step.terminated.item()
    assert not step.faulty.item()
    velocity = (env.physics.qpos[0, 0] - before) / 0.008
    assert step.reward.item() == pytest.approx(1.0 - abs(velocity), abs=1e-5)


@every_family
def test_layout_of_the_observation(family: str) -> None:
    size, num_actions, _ = LAYOUT[family]
    distribution, env = build(family, "Vel")
    env.reset(distribution.held_out(2), 2, STREAMS)
    for time in range(40):
        obs = step_all(env, 2 * STREAMS.normal(f"action {time}", 2, (2, num_actions))).obs
    assert obs.shape == (2, 2, size) == (2, 2, env.spec.observation_size)
    physics = env.physics
    joints = num_actions + 2
    rows = obs.flatten(0, 1).numpy()
    np.testing.assert_array_equal(rows[:, :joints], physics.qpos[:, 1:].astype(np.float32))
    speeds = np.minimum(np.maximum(physics.qvel, -10.0), 10.0).astype(np.float32)
    np.testing.assert_array_equal(rows[:, joints:], speeds)
    assert (np.abs(physics.qvel) > 10.0).any() or family == "Hopper"
    data = mujoco.MjData(physics.model)
    data.qpos[:] = physics.qpos[0]
    mujoco.mj_forward(physics.model, data)
    assert rows[0, 0] == pytest.approx(data.body("torso").xpos[2], abs=1e-6)


@every_family
def test_velocities_are_clipped_in_the_observation_alone(family: str) -> None:
    _, env = build(family, "Vel")
    env.reset(velocity_tasks(0.0), 1, STREAMS)
    set_state(env, v0=50.0, v1=-50.0)
    step = step_all(env, torch.zeros(1, 1, env.spec.action_size))
    first = env.spec.action_size + 2
    assert step.obs[0, 0, first : first + 2].tolist() == [10.0, -10.0]
    assert step.reward.item() < -20.0


@pytest.mark.parametrize("kind", ["RandParams", "Vel"])
@every_family
def test_starts_spread_around_the_standing_body(family: str, kind: str) -> None:
    distribution, env = build(family, kind)
    env.reset(distribution.held_out(20), 50, STREAMS)
    stand = np.zeros(env.physics.qpos.shape[1])
    stand[1] = 1.25
    state = np.concatenate((env.physics.qpos - stand, env.physics.qvel), 1) / 0.005
    n = state.size
    assert 0.999 < np.abs(state).max() <= 1.0 + 1e-9
    assert abs(state.mean()) < 5 / (3 * n) ** 0.5
    assert state.std() == pytest.approx(3**-0.5, rel=5 * (0.2 / n) ** 0.5)
    correlation = np.corrcoef(state.T) - np.eye(state.shape[1])
    assert np.abs(correlation).max() < 5 / len(state) ** 0.5


@pytest.mark.parametrize(("family", "largest"), [("Walker2d", 3.0), ("Hopper", 2.0)])
def test_velocities(family: str, largest: float) -> None:
    distribution, _ = build(family, "Vel")
    velocity = distribution.sample(2000, STREAMS).parameter["velocity"]
    assert 0 <= velocity.min() < 0.01 * largest
    assert 0.99 * largest < velocity.max() < largest
    shifted = distribution.held_out(500, "shifted").parameter["velocity"]
    assert largest <= shifted.min() < largest + 0.05
    assert largest + 0.95 < shifted.max() < largest + 1.0


@every_family
def test_batched_is_one_by_one(family: str) -> None:
    for kind in ("RandParams", "Vel"):
        distribution, env = build(family, kind)
        tasks = distribution.held_out(3)
        num_actions = env.spec.action_size
        env.reset(tasks, 1, STREAMS)
        together = []
        for time in range(30):
            together.append(step_all(env, STREAMS.normal(f"a{time}", 3, (1, num_actions))))
        for place in range(3):
            _, alone = build(family, kind)
            alone.reset(tasks.take(slice(place, place + 1)), 1, STREAMS.from_task(place))
            for time in range(30):
                action = STREAMS.from_task(place).normal(f"a{time}", 1, (1, num_actions))
                step = step_all(alone, action)
                assert torch.equal(step.obs[0], together[time].obs[place])
                assert torch.equal(step.reward[0], together[time].reward[place])


def test_full_torques() -> None:
    for family, (_, num_actions, torque) in LAYOUT.items():
        _, env = build(family, "Vel")
        gear = env.physics.model.actuator_gear[:, 0]
        assert gear.tolist() == [torque] * num_actions
        joints = [env.physics.model.joint(i).name for i in range(3, 3 + num_actions)]
        motors = [env.physics.model.actuator(i).name for i in range(num_actions)]
        assert joints == motors
    assert len(set(itertools.chain(joints, motors))) == 3
