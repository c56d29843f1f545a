"""Points that navigate, as the tests of all their settings make them."""

from dataclasses import replace

import torch
from torch import Tensor

from metarl import envs
from metarl.envs.navigation import PRESETS as NAVIGATION_PRESETS
from metarl.envs.navigation import NavigationConfig
from metarl.protocols import VectorTaskEnv
from metarl.seeding import Streams
from metarl.types import Step, Tasks

NAME = "metarl/PointNavigation-v0"
STREAMS = Streams(2, ("navigation",))


def goals(*places: tuple[float, float]) -> Tasks:
    return Tasks(torch.full((len(places),), -1), {"goal": torch.tensor(places)})


def start(config: NavigationConfig, *places: tuple[float, float]) -> VectorTaskEnv:
    """One point for each goal."""
    _, env = envs.build(NAME, config)
    assert torch.equal(env.reset(goals(*places), 1, STREAMS), torch.zeros(len(places), 1, 2))
    return env


def move(env: VectorTaskEnv, *actions: tuple[float, float]) -> Step:
    action = torch.tensor(actions)[:, None]
    return env.step(action, torch.ones(action.shape[:2], dtype=torch.bool))


def start_preset(preset: str, *places: tuple[float, float]) -> VectorTaskEnv:
    """One point at the origin for each goal."""
    config = replace(NAVIGATION_PRESETS[preset], start_range=0.0)
    return start(config, *places)


def close(values: Tensor, expected: object) -> None:
    torch.testing.assert_close(values, torch.tensor(expected), atol=1e-6, rtol=0)
