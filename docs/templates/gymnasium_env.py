"""The Gymnasium door: a Gymnasium environment, what training draws, and held-out tasks.

``metarl check docs/templates/gymnasium_env.py:ENV``
"""

import numpy as np
from valley import Valley

from metarl.envs.from_gymnasium import FromGymnasium


def draw(rng: np.random.Generator) -> dict[str, float]:
    """Draw a training task."""
    return {"slope": rng.uniform(0.5, 1.5), "flag": rng.uniform(0.5, 1.5)}


HELD_OUT = [{"slope": 0.6 + 0.1 * n, "flag": 1.4 - 0.1 * n} for n in range(9)]

ENV = FromGymnasium(
    name="my/Valley-v0",
    make=Valley,
    horizon=100,
    train=draw,
    test=HELD_OUT,
    success=True,
)
