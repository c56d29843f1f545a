"""Bodies that Gymnasium has too: equal motion, and equal observations and payments."""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
import numpy as np
import pytest
import torch

from metarl import envs
from metarl.envs.mujoco_env import MujocoEnv
from metarl.seeding import Streams
from metarl.types import Step

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


def step_all(env: MujocoEnv, action: torch.Tensor) -> Step:
    return env.step(action, torch.ones(action.shape[:2], dtype=torch.bool))


def gymnasium_model(asset: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> mujoco.MjModel:
    """A model of Gymnasium's, compiled where MuJoCo may write its log."""
    monkeypatch.chdir(folder)
    spec = importlib.util.find_spec("gymnasium")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0])
    return mujoco.MjModel.from_xml_path(str(root / "envs/mujoco/assets" / asset))


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
    """Large torques: step by step from equal states, as chaos multiplies the last bit of a mass.
    Small ones: 100 steps on end."""
    model = gymnasium_model(pair.asset, tmp_path, monkeypatch)
    data = mujoco.MjData(model)
    env = start(pair)
    physics = env.physics
    data.qpos[:], data.qvel[:] = physics.qpos[0], physics.qvel[0]
    mujoco.mj_forward(model, data)
    shape = (100, 1, env.spec.action_size)
    touched = 0
    for action in size * (2 * STREAMS.uniform("action", 1, shape) - 1)[0]:
        step_all(env, action[None])
        data.ctrl[:] = action[0].double().numpy()
        mujoco.mj_step(model, data, physics.substeps)
        touched += data.ncon
        np.testing.assert_allclose(physics.qpos[0], data.qpos, rtol=0, atol=1e-10)
        np.testing.assert_allclose(physics.qvel[0], data.qvel, rtol=0, atol=1e-10)
        if not follow:
            data.qpos[:], data.qvel[:] = physics.qpos[0], physics.qvel[0]
            data.qacc_warmstart[:] = 0.0
            physics.reset(physics.qpos.copy(), physics.qvel.copy())
    assert (touched > 0) == pair.touches


def gymnasium_env(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: float
) -> Any:
    pytest.importorskip("imageio", reason="Gymnasium's MuJoCo environments import it")
    gymnasium = pytest.importorskip("gymnasium")
    monkeypatch.chdir(folder)
    other = gymnasium.make(name, **settings).unwrapped
    other.reset(seed=0)
    return other


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
