"""Bodies that Gymnasium has too: equal motion, and equal observations and payments."""

from pathlib import Path
from typing import NamedTuple

import mujoco
import numpy as np
import pytest
import torch

from metarl import envs
from metarl.envs.mujoco_env import MujocoEnv
from metarl.seeding import Streams
from tests.envs.bodies import gymnasium_env, gymnasium_model, step_all, step_beside

STREAMS = Streams(3, ("alignment",))


class Pair(NamedTuple):
    name: str
    asset: str
    theirs: str
    touches: bool


WALKER = Pair("metarl/Walker2dVel-v0", "walker2d_v5.xml", "Walker2d-v5", touches=True)
HOPPER = Pair("metarl/HopperVel-v0", "hopper.xml", "Hopper-v5", touches=True)
REACHER = Pair("metarl/ReacherGoal-v0", "reacher.xml", "Reacher-v5", touches=False)
LEGGED = [WALKER, HOPPER]
FIELDS = "body_mass body_inertia geom_size dof_damping dof_armature dof_M0 jnt_range jnt_limited"
FIELDS += " actuator_gear actuator_ctrlrange body_subtreemass jnt_solref"
OF_CONTACTS = " qpos0 geom_friction geom_solref geom_solimp geom_margin geom_condim geom_contype"
OF_CONTACTS += " geom_conaffinity"
every_pair = pytest.mark.parametrize("pair", [*LEGGED, REACHER], ids=lambda pair: pair.theirs)
every_legged_pair = pytest.mark.parametrize("pair", LEGGED, ids=lambda pair: pair.theirs)


def start(pair: Pair, copies: int = 1) -> MujocoEnv:
    distribution, env = envs.build(pair.name, threads=1)
    assert isinstance(env, MujocoEnv)
    env.reset(distribution.held_out(copies), 1, STREAMS)
    return env


@every_pair
def test_has_the_constants_of_gymnasiums(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = gymnasium_model(pair.asset, tmp_path, monkeypatch)
    ours = start(pair).physics.model
    for field in (FIELDS + OF_CONTACTS if pair.touches else FIELDS).split():
        np.testing.assert_allclose(
            getattr(ours, field), getattr(theirs, field), rtol=1e-13, atol=1e-13, err_msg=field
        )
    for option in ("timestep", "integrator", "solver", "iterations", "tolerance", "cone"):
        assert getattr(ours.opt, option) == getattr(theirs.opt, option), option


@pytest.mark.parametrize(("size", "follow"), [(1.0, False), (0.1, True)])
@every_pair
def test_moves_like_gymnasiums(
    pair: Pair, size: float, follow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = gymnasium_model(pair.asset, tmp_path, monkeypatch)
    contacts = step_beside(start(pair), model, STREAMS, size, follow)
    assert (contacts > 0) == pair.touches


@every_legged_pair
def test_pays_ends_and_observes_like_gymnasiums(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = gymnasium_env(pair.theirs, tmp_path, monkeypatch)
    name = pair.name.replace("Vel", "RandParams")
    distribution, env = envs.build(name, threads=1)
    assert isinstance(env, MujocoEnv)
    tasks = distribution.held_out(2)
    nominal = {key: torch.ones_like(leaf) for key, leaf in tasks.parameter.items()}
    env.reset(tasks._replace(parameter=nominal), 1, STREAMS)
    ended = []
    for time in range(100):
        action = STREAMS.normal(f"action {time}", 1, (1, env.spec.action_size)).expand(2, 1, -1)
        other.set_state(env.physics.qpos[1].copy(), env.physics.qvel[1].copy())
        env.physics.reset(env.physics.qpos.copy(), env.physics.qvel.copy())
        step = step_all(env, action)
        obs, _, terminated, _, info = other.step(action[1, 0].clamp(-1, 1).numpy())
        ended.append(terminated)
        assert step.terminated[1, 0].item() == terminated
        np.testing.assert_allclose(step.obs[1, 0], obs, rtol=1e-6, atol=1e-6)
        expected = info["x_velocity"] + 1.0 + info["reward_ctrl"]
        assert step.reward[1, 0].item() == pytest.approx(expected, abs=1e-5)
        assert info["reward_survive"] == (not terminated)
    assert not ended[0]
    assert ended[-1]


def test_reaches_and_pays_like_gymnasiums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gymnasium reads positions of bodies a stage of the integrator late; here they are current."""
    other = gymnasium_env("Reacher-v5", tmp_path, monkeypatch, reward_control_weight=0.1)
    env = start(REACHER, copies=2)
    for time in range(50):
        action = STREAMS.normal(f"action {time}", 1, (1, 2)).expand(2, 1, -1)
        other.set_state(env.physics.qpos[1].copy(), env.physics.qvel[1].copy())
        env.physics.reset(env.physics.qpos.copy(), env.physics.qvel.copy())
        step = step_all(env, action)
        _, _, terminated, _, info = other.step(action[1, 0].clamp(-1, 1).numpy())
        mujoco.mj_forward(other.model, other.data)
        obs = other._get_obs()
        tip, goal = other.get_body_com("fingertip")[:2], other.get_body_com("target")[:2]
        assert not terminated
        seen = step.obs[1, 0].numpy()
        np.testing.assert_allclose(seen[:4], obs[:4], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(seen[4:6], obs[6:8], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(seen[6:], tip, rtol=1e-6, atol=1e-6)
        expected = info["reward_ctrl"] - np.linalg.norm(tip - goal)
        assert step.reward[1, 0].item() == pytest.approx(expected, abs=1e-6)
        lag = abs(info["reward_dist"] + np.linalg.norm(tip - goal))
        assert lag < 5e-3
