"""Random dynamics: the draws, and copies against models of their own under plain MuJoCo."""

import math
from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl import envs
from metarl.envs import ENVS
from metarl.envs.mujoco_env import MujocoEnv
from metarl.envs.random_dynamics import RandomDynamicsConfig, draw_multipliers, varied
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import Tasks

STREAMS = Streams(7, ("random dynamics",))
BASES = {"body_mass": 1.5, "body_inertia": 1.5, "geom_friction": 1.5, "dof_damping": 1.3}
NAMES = [name for name in ENVS if "RandParams" in name]
CASES = [(name, preset) for name in NAMES for preset in ENVS[name].presets]
DERIVED = ["body_subtreemass", "dof_M0", "dof_invweight0", "body_invweight0", "actuator_acc0"]
every_case = pytest.mark.parametrize(("name", "preset"), CASES)
every_body = pytest.mark.parametrize("name", NAMES)
Array = NDArray[np.float64]


def build(name: str, preset: str) -> tuple[TaskDistribution, MujocoEnv]:
    distribution, env = envs.build(name, envs.preset(name, preset), threads=1)
    assert isinstance(env, MujocoEnv)
    return distribution, env


def with_values(tasks: Tasks, **values: Tensor) -> Tasks:
    return tasks._replace(parameter={**tasks.parameter, **values})


def nominal(tasks: Tasks) -> Tasks:
    return with_values(tasks, **{n: torch.ones_like(x) for n, x in tasks.parameter.items()})


def actions(env: MujocoEnv, num_tasks: int, steps: int) -> Tensor:
    """[T, K, 1, A], the same for every task."""
    action = STREAMS.normal("action", 1, (steps, 1, env.spec.action_size))
    return action.expand(num_tasks, -1, -1, -1).transpose(0, 1)


def run(env: MujocoEnv, tasks: Tasks, steps: int = 100) -> Array:
    """States [T, K, nq + nv] of one copy of each task."""
    env.reset(tasks, 1, STREAMS)
    return go_on(env, len(tasks.task_id), steps)


def go_on(env: MujocoEnv, num_tasks: int, steps: int) -> Array:
    states, running = [], torch.ones(num_tasks, 1, dtype=torch.bool)
    for action in actions(env, num_tasks, steps):
        assert not env.step(action, running).faulty.any()
        states.append(np.concatenate((env.physics.qpos, env.physics.qvel), 1))
    return np.stack(states)


def model_of(env: MujocoEnv, tasks: Tasks, place: int) -> mujoco.MjModel:
    """One task's model, made without the suite's physics."""
    model = mujoco.MjModel.from_xml_string(env.body.xml)
    multipliers = {name: leaf[place].double().numpy() for name, leaf in tasks.parameter.items()}
    if "body_mass" in multipliers and "body_inertia" not in multipliers:
        multipliers["body_inertia"] = multipliers["body_mass"][:, None]
    for field, values in multipliers.items():
        getattr(model, field)[:] *= values
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def run_alone(env: MujocoEnv, tasks: Tasks, place: int, start: Array, steps: int) -> Array:
    model = model_of(env, tasks, place)
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = start[: model.nq], start[model.nq :]
    mujoco.mj_forward(model, data)
    states = []
    for action in actions(env, 1, steps)[:, 0, 0].double().numpy():
        data.ctrl[:] = np.clip(action / env.spec.action_limit, -1.0, 1.0)
        for _ in range(env.body.substeps):
            mujoco.mj_step(model, data)
        states.append(np.concatenate((data.qpos, data.qvel)))
    return np.stack(states)


@every_case
def test_multipliers_of_one_are_the_model_bit_for_bit(name: str, preset: str) -> None:
    distribution, env = build(name, preset)
    tasks = nominal(distribution.held_out(2))
    varying = run(env, tasks)
    body = env.body._replace(vary=None)
    plain = MujocoEnv(env.spec, body, tuple(tasks.parameter), "cpu", 1)
    np.testing.assert_array_equal(varying, run(plain, tasks))


@every_case
def test_every_copy_moves_as_in_a_model_of_its_own(name: str, preset: str) -> None:
    distribution, env = build(name, preset)
    tasks = distribution.held_out(4)
    env.reset(tasks, 1, STREAMS)
    starts = np.concatenate((env.physics.qpos, env.physics.qvel), 1)
    together = go_on(env, 4, 100)
    for place in range(4):
        alone = run_alone(env, tasks, place, starts[place], 100)
        np.testing.assert_array_equal(together[:, place], alone)


@every_case
def test_what_mujoco_derives_follows(name: str, preset: str) -> None:
    distribution, env = build(name, preset)
    tasks = distribution.held_out(3)
    env.reset(tasks, 1, STREAMS)
    for place in range(3):
        model = model_of(env, tasks, place)
        for field in DERIVED:
            ours, theirs = env.physics.expand(field)[place], getattr(model, field)
            np.testing.assert_array_equal(ours, theirs, err_msg=field)
    if "body_mass" in tasks.parameter:
        derived = [env.physics.expand(field) for field in DERIVED]
        assert all(not np.array_equal(values[0], values[1]) for values in derived)


@every_case
def test_every_task_and_every_field_moves_in_its_own_way(name: str, preset: str) -> None:
    distribution, env = build(name, preset)
    tasks = distribution.sample(4, STREAMS)
    tasks = with_values(tasks, **{n: x[[0, 1, 2, 0]] for n, x in tasks.parameter.items()})
    start = env.reset(nominal(tasks), 1, Streams(0)).clone()
    assert not torch.equal(start[0], start[3])
    states = run(env, tasks)
    assert len({tuple(row) for row in states[-1].tolist()}) == 4
    plain = run(env, nominal(tasks))
    for field, values in tasks.parameter.items():
        only = with_values(nominal(tasks), **{field: values})
        assert (run(env, only)[-1] != plain[-1]).any(1).all(), field


@every_case
def test_tasks_do_not_compound(name: str, preset: str) -> None:
    distribution, env = build(name, preset)
    one, other = distribution.sample(3, STREAMS), distribution.sample(3, STREAMS.at("other"))
    first = run(env, one)
    assert not np.array_equal(run(env, other), first)
    np.testing.assert_array_equal(run(env, one), first)
    for field, multiplier in one.parameter.items():
        expected = env.physics.nominal(field) * multiplier.double().numpy()
        np.testing.assert_array_equal(env.physics.expand(field), expected)


@every_case
def test_a_restart_keeps_the_dynamics(name: str, preset: str) -> None:
    distribution, env = build(name, preset)
    tasks = distribution.held_out(3)
    first = run(env, tasks, 20)
    env.restart(torch.ones(3, 1, dtype=torch.bool), STREAMS)
    np.testing.assert_array_equal(go_on(env, 3, 20), first)


@every_body
def test_inertia_goes_with_mass_by_default(name: str) -> None:
    distribution, env = build(name, "default")
    tasks = distribution.held_out(5)
    assert "body_inertia" not in tasks.parameter
    env.reset(tasks, 1, STREAMS)
    inertia = env.physics.expand("body_inertia")[:, 1:]
    mass = env.physics.expand("body_mass")[:, 1:]
    nominal_inertia, nominal_mass = (
        env.physics.nominal(field)[1:] for field in ("body_inertia", "body_mass")
    )
    np.testing.assert_allclose(
        inertia / mass[..., None],
        np.broadcast_to(nominal_inertia / nominal_mass[:, None], inertia.shape),
        rtol=1e-12,
    )
    assert (2 * inertia.max(-1) <= inertia.sum(-1) * (1 + 1e-12)).all()


def test_published_inertias_may_belong_to_no_solid_body() -> None:
    distribution, env = build("metarl/Walker2dRandParams-v0", "pearl-2019")
    env.reset(distribution.held_out(5), 1, STREAMS)
    inertia = env.physics.expand("body_inertia")[:, 1:]
    assert (2 * inertia.max(-1) > inertia.sum(-1)).any()


@pytest.mark.parametrize(("low", "width"), [(0.0, 3.0), (3.0, 1.0)])
def test_exponents_are_uniform_and_independent(low: float, width: float) -> None:
    shapes: dict[str, tuple[int, ...]] = {"body_mass": (8,), "body_inertia": (8, 3)}
    shapes |= {"geom_friction": (8, 3), "dof_damping": (9,)}
    drawn = draw_multipliers(2000, STREAMS, shapes=shapes, low=low, width=width)
    assert drawn.keys() == BASES.keys()
    rows = []
    for field, base in BASES.items():
        assert drawn[field].shape == (2000, *shapes[field])
        exponent = drawn[field].flatten(1).double().log() / math.log(base)
        rows.append(exponent)
        size, n = exponent.abs(), exponent.numel()
        assert size.min() > low - 1e-6
        assert size.max() < low + width + 1e-6
        mean, spread = low + width / 2, width / 12**0.5
        assert abs(size.mean() - mean) < 5 * spread / n**0.5
        assert size.std().item() == pytest.approx(spread, rel=5 * (0.2 / n) ** 0.5)
        assert abs((exponent > 0).double().mean() - 0.5) < 5 * 0.5 / n**0.5
    correlation = np.corrcoef(torch.cat(rows, 1).numpy().T)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 6 / 2000**0.5


@every_body
def test_shifted_tasks_lie_outside_of_training(name: str) -> None:
    distribution, _ = build(name, "default")
    train, shifted = distribution.sample(100, STREAMS), distribution.held_out(100, "shifted")
    for field, base in BASES.items():
        if field in train.parameter:
            edge = 3.0 * math.log(base)
            assert train.parameter[field].log().abs().max() <= edge + 1e-6
            assert shifted.parameter[field].log().abs().min() >= edge - 1e-6


@pytest.mark.parametrize("name", ["metarl/Walker2dRandParams-v0", "metarl/HopperRandParams-v0"])
def test_pearls_lists(name: str) -> None:
    distribution, env = build(name, "pearl-2019")
    drawn, held_out = distribution.sample(1500, STREAMS), distribution.held_out(10)
    assert drawn.parameter.keys() == BASES.keys()
    assert torch.unique(drawn.task_id).tolist() == list(range(40))
    assert held_out.task_id.tolist() == list(range(40, 50))
    for field, leaf in drawn.parameter.items():
        assert leaf.shape[1:] == env.physics.nominal(field).shape
        assert len(torch.unique(leaf, dim=0)) == 40
        train = {tuple(row) for row in leaf.flatten(1).tolist()}
        assert all(tuple(row) not in train for row in held_out.parameter[field].flatten(1).tolist())


def test_what_varies() -> None:
    config = RandomDynamicsConfig()
    assert varied(config) == ("body_mass", "geom_friction", "dof_damping")
    assert varied(replace(config, independent_inertia=True)) == tuple(BASES)
    only = replace(config, vary_mass=False, vary_friction=False)
    assert varied(only) == ("dof_damping",)
    with pytest.raises(ValueError, match=r"RandomDynamicsConfig\.vary_mass must be True where"):
        replace(only, vary_damping=False)
    with pytest.raises(ValueError, match=r"max_exponent must be a number above 0, at most 10"):
        replace(config, max_exponent=11.0)


@every_body
def test_wild_bodies_do_not_blow_up(name: str) -> None:
    """Random actions on the widest tasks, well past the falls: the simulator holds."""
    config: Any = replace(envs.preset(name), horizon=100)
    distribution, env = envs.build(name, config, threads=1)
    env.reset(distribution.held_out(40, "shifted"), 1, STREAMS)
    for time in range(100):
        action = STREAMS.normal(f"wild {time}", 40, (1, env.spec.action_size))
        action = action * env.spec.action_limit
        assert not env.step(action, torch.ones(40, 1, dtype=torch.bool)).faulty.any()
