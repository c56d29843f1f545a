"""Half-cheetahs in batch physics, and one of them by MuJoCo itself."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from metarl.envs.physics import BatchPhysics, load_asset

XML = load_asset("half_cheetah.xml")
SUBSTEPS = 5
Array = NDArray[np.float64]


def start(num_copies: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.1, 0.1, (num_copies, 9)), 0.1 * rng.standard_normal((num_copies, 9))


def controls(num_steps: int, num_copies: int) -> Array:
    return np.random.default_rng(1).uniform(-1, 1, (num_steps, num_copies, 6))


def batch(num_copies: int, threads: int = 1) -> BatchPhysics:
    physics = BatchPhysics(XML, num_copies, SUBSTEPS, threads)
    physics.reset(*start(num_copies))
    return physics


def run(physics: BatchPhysics, num_steps: int) -> Array:
    """States [T, N, nq + nv] under random controls."""
    states = []
    for ctrl in controls(num_steps, physics.num_copies):
        physics.ctrl[:] = ctrl
        assert not physics.step().any()
        states.append(np.concatenate((physics.qpos, physics.qvel), 1))
    return np.stack(states)


def run_alone(model: mujoco.MjModel, copy: int, num_copies: int, num_steps: int) -> Array:
    """The states [T, nq + nv] of one of those copies, by ``mj_step``."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = (x[copy] for x in start(num_copies))
    mujoco.mj_forward(model, data)
    states = []
    for ctrl in controls(num_steps, num_copies)[:, copy]:
        data.ctrl[:] = ctrl
        for _ in range(SUBSTEPS):
            mujoco.mj_step(model, data)
        states.append(np.concatenate((data.qpos, data.qvel)))
    return np.stack(states)
