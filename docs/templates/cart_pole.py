"""The MJCF door: hold a pole upright over a hidden place, under a payload of hidden weight.

``metarl check docs/templates/cart_pole.py:ENV``
"""

from pathlib import Path

import numpy as np

from metarl.envs.from_mjcf import FromMjcf, Goal, Vary
from metarl.envs.mujoco_env import Array, Flags, Moved
from metarl.envs.physics import BatchPhysics


def reward(moved: Moved) -> Array:
    """Pay 1 for each step, less for distance (m) and for effort; one row per copy."""
    cart = moved.after[:, 0]
    return 1.0 - np.abs(cart - moved.parameter["place"]) - 0.01 * moved.effort


def fallen(physics: BatchPhysics) -> Flags:
    """End the episodes whose pole leans more than 0.8 rad."""
    return np.abs(physics.qpos[:, 1]) > 0.8


ENV = FromMjcf(
    name="my/CartPole-v0",
    xml=Path(__file__).with_name("cart_pole.xml"),
    reward=reward,
    horizon=200,
    substeps=2,
    vary=(
        Vary(("body_mass", "body_inertia"), "payload", low=0.5, high=3.0, shifted=(3.0, 4.0)),
        Vary("dof_damping", "slide", low=0.5, high=5.0),
    ),
    goals=(Goal("place", low=-1.0, high=1.0, unit="m", text="where to stand"),),
    unhealthy=fallen,
)
