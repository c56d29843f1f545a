"""Another environment's tasks and actions of another shape are refused by every environment."""

import pytest
import torch

from metarl import envs
from metarl.envs import ENVS
from metarl.seeding import Streams
from metarl.types import Tasks

STREAMS = Streams(0, ("refusals",))


@pytest.mark.parametrize("name", ENVS)
def test_tasks_of_another_environment(name: str) -> None:
    distribution, env = envs.build(name, threads=1)
    wrong = Tasks(torch.zeros(2, dtype=torch.int64), {"colour": torch.zeros(2)})
    first = next(iter(distribution.parameters))
    with pytest.raises(ValueError, match=rf"{name} takes tasks with .*{first}.*; got colour"):
        env.reset(wrong, 1, STREAMS)


@pytest.mark.parametrize("name", ENVS)
def test_actions_of_another_shape(name: str) -> None:
    distribution, env = envs.build(name, threads=1)
    env.reset(distribution.held_out(2), 3, STREAMS)
    running = torch.ones(2, 3, dtype=torch.bool)
    size = (2, 1) if env.spec.discrete else (2, 1, env.spec.action_size)
    dtype = torch.int64 if env.spec.discrete else torch.float32
    with pytest.raises(ValueError, match=rf"{name}: action is \(2, 1"):
        env.step(torch.zeros(size, dtype=dtype), running)


def test_the_environments_state_is_its_own() -> None:
    for name in ("metarl/PointNavigation-v0", "metarl/GridNavi-v0"):
        distribution, env = envs.build(name)
        obs = env.reset(distribution.held_out(1), 1, STREAMS)
        obs.add_(5.0)
        spec = env.spec
        action = torch.zeros(1, 1, dtype=torch.int64) if spec.discrete else torch.zeros(1, 1, 2)
        step = env.step(action, torch.ones(1, 1, dtype=torch.bool))
        assert step.obs.abs().max() == 0.0
        step.obs.add_(5.0)
        assert env.step(action, torch.ones(1, 1, dtype=torch.bool)).obs.abs().max() == 0.0


def test_a_copy_that_is_not_running_does_not_see_its_action() -> None:
    distribution, env = envs.build("metarl/PointNavigation-v0")
    env.reset(distribution.held_out(1), 2, STREAMS)
    action = torch.tensor([[[float("nan"), 0.0], [0.1, 0.1]]])
    step = env.step(action, torch.tensor([[False, True]]))
    assert torch.isfinite(step.obs).all()
