"""What varies in a user's MuJoCo model: each copy moves as in a model of its own."""

import mujoco
import numpy as np
import pytest
import torch

from metarl.checks import InputError
from metarl.envs.from_mjcf import Vary
from metarl.envs.physics import BatchPhysics
from metarl.types import Tasks
from tests.envs.cart_poles import PAYLOAD, STREAMS, XML, E, T, door, roll, tasks


def test_each_copy_moves_as_in_a_model_of_its_own() -> None:
    which = tasks([1.0, 2.5, 0.5], [0.125, 0.5, 1.5])
    obs, reward = roll(door(), which)
    action = STREAMS.normal("action", 1, (E, T, 1)).double().clamp(-1, 1)[0]
    for place in range(3):
        model = mujoco.MjModel.from_xml_string(XML)
        payload = model.body("payload").id
        factor = float(which.parameter["payload.body_mass"][place])
        model.body_mass[payload] *= factor
        model.body_inertia[payload] *= factor
        model.dof_damping[0] = float(which.parameter["slide.dof_damping"][place])
        data = mujoco.MjData(model)
        mujoco.mj_setConst(model, data)
        for episode in range(E):
            mujoco.mj_resetData(model, data)
            # The start has no more digits than the observation shows.
            start = obs[place, episode, 0].double().numpy()
            data.qpos[:], data.qvel[:] = start[:2], start[2:]
            for time in range(T):
                data.ctrl[0] = float(action[episode, time])
                mujoco.mj_step(model, data, 2)
                here = np.concatenate((data.qpos, data.qvel))
                np.testing.assert_allclose(obs[place, episode, time + 1], here, atol=1e-4)
                expected = pytest.approx(0.5 - data.qpos[0], abs=1e-4)
                assert float(reward[place, episode, time]) == expected


def test_a_factor_of_1_is_the_model_as_it_stands() -> None:
    plain = Vary("geom_friction", "rail", low=0.5, high=2.0)
    nominal = Tasks(torch.arange(1), {"rail.geom_friction": torch.ones(1), "place": torch.ones(1)})
    ours = Tasks(
        torch.arange(1),
        {"payload.body_mass": torch.ones(1), "place": torch.ones(1)},
    )
    goal = Tasks(torch.arange(1), {"place": torch.ones(1)})
    expected = roll(door(vary=()), goal)
    for source, which in ((door(vary=(plain,)), nominal), (door(vary=(PAYLOAD,)), ours)):
        # Factors of tasks before leave nothing behind.
        others = source.build("cpu", 1)[0].sample(1, STREAMS)
        for one, other in zip(roll(source, which, others), expected, strict=True):
            assert torch.equal(one, other)


def test_what_mujoco_derives_follows_what_varies() -> None:
    _, env = door(vary=(PAYLOAD,)).build("cpu", 1)
    which = tasks([1.0, 3.0], [0.0, 0.0])
    del which.parameter["slide.dof_damping"]
    env.reset(which, 1, STREAMS)
    masses = env.physics.expand("body_mass")
    assert masses[1].sum() > masses[0].sum()
    np.testing.assert_allclose(env.physics.expand("body_subtreemass")[:, 0], masses.sum(1))


def test_a_joint_has_as_many_rows_as_degrees_of_freedom() -> None:
    xml = """<mujoco><worldbody>
      <body name="ball"><freejoint name="float"/><geom name="ball" size="0.1"/></body>
      <body name="arm"><joint name="hinge"/><geom size="0.1"/></body>
    </worldbody></mujoco>"""
    physics = BatchPhysics(xml, 1, 1, 1)
    assert physics.rows_of("dof_damping", "float").tolist() == [0, 1, 2, 3, 4, 5]
    assert physics.rows_of("dof_damping", "hinge").tolist() == [6]
    assert physics.rows_of("jnt_stiffness", "hinge").tolist() == [1]
    assert physics.rows_of("geom_friction", "ball").tolist() == [0]
    with pytest.raises(InputError, match="element of geom_friction: no ''; known: ball"):
        physics.rows_of("geom_friction", "")


def test_tasks_are_drawn_and_described() -> None:
    distribution, env = door().build("cpu", 1)
    drawn = distribution.sample(500, STREAMS)
    for name, low, high in (("payload.body_mass", 0.5, 3.0), ("place", -1.0, 1.0)):
        leaf = drawn.parameter[name]
        assert low <= leaf.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < leaf.max() <= high
    shifted = distribution.held_out(100, "shifted").parameter
    assert shifted["slide.dof_damping"].min() >= 2.0
    assert shifted["payload.body_mass"].min() < 1.0
    about = distribution.parameters["slide.dof_damping"]
    assert (about.low, about.high) == (0.0, 3.0)
    assert about.text == "value of dof_damping of slide"
    assert distribution.parameters["place"].unit == "m"
    assert env.spec.observation_size == 4
    assert door().shows == "dynamics"
    assert door(vary=()).shows == "rewards"
