"""Bodies beside Gymnasium's: what the tests of several families share."""

import importlib.util
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.envs.mujoco_env import MujocoEnv
from metarl.seeding import Streams
from metarl.types import Step


def step_all(env: MujocoEnv, action: Tensor) -> Step:
    return env.step(action, torch.ones(action.shape[:2], dtype=torch.bool))


def gymnasium_model(asset: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> mujoco.MjModel:
    """A model of Gymnasium's, compiled where MuJoCo may write its log."""
    monkeypatch.chdir(folder)
    spec = importlib.util.find_spec("gymnasium")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0])
    return mujoco.MjModel.from_xml_path(str(root / "envs/mujoco/assets" / asset))


def gymnasium_env(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: float
) -> Any:
    pytest.importorskip("imageio", reason="Gymnasium's MuJoCo environments import it")
    gymnasium = pytest.importorskip("gymnasium")
    monkeypatch.chdir(folder)
    other = gymnasium.make(name, **settings).unwrapped
    other.reset(seed=0)
    return other


def step_beside(
    env: MujocoEnv, model: mujoco.MjModel, streams: Streams, size: float = 1.0, follow: bool = True
) -> int:
    """Take 100 random steps with the one copy of ``env`` and with ``model``, from equal states to
    equal states, and return how many contacts were met.

    Actions lie in [-size, size]. Both go on from where they are; or, without ``follow``, at each
    step from ours, for bodies whose chaos multiplies the last bit of a mass by 1e13 in 100 steps.
    """
    data, physics, contacts = mujoco.MjData(model), env.physics, 0
    data.qpos[:], data.qvel[:] = physics.qpos[0], physics.qvel[0]
    mujoco.mj_forward(model, data)
    low, high = model.actuator_ctrlrange.T
    shape = (100, 1, env.spec.action_size)
    for action in size * (2 * streams.uniform("action", 1, shape) - 1)[0]:
        step_all(env, action[None])
        data.ctrl[:] = (low + high) / 2 + (high - low) / 2 * action[0].double().numpy()
        mujoco.mj_step(model, data, physics.substeps)
        contacts += data.ncon
        np.testing.assert_allclose(physics.qpos[0], data.qpos, rtol=0, atol=1e-10)
        np.testing.assert_allclose(physics.qvel[0], data.qvel, rtol=0, atol=1e-10)
        for field in env.body.outputs:
            expected = getattr(data, field)
            np.testing.assert_allclose(physics.output(field)[0], expected, rtol=0, atol=1e-8)
        if not follow:
            data.qpos[:], data.qvel[:] = physics.qpos[0], physics.qvel[0]
            data.qacc_warmstart[:] = 0.0
            physics.reset(physics.qpos.copy(), physics.qvel.copy())
    return contacts
