"""What all families of mazes promise: mazes that training never meets, and goals nobody sees."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from metarl import envs
from metarl.envs.grid_maze import GridMazeConfig
from metarl.protocols import VectorTaskEnv
from metarl.seeding import Streams
from metarl.types import Step, Tasks

GRID, POINT, ANT = "metarl/GridMaze-v0", "metarl/PointMaze-v0", "metarl/AntMaze-v0"
STREAMS = Streams(8, ("promises",))
NUM_GOALS, EPISODES = 5, 4
STEPS = {GRID: 150, POINT: 100, ANT: 40}

GENERATED: list[tuple[str, Any]] = [
    (name, config)
    for name in (GRID, POINT, ANT)
    for config in envs.ENVS[name].presets.values()
    if name == GRID or not config.layout
]
OTHER_SIDES: list[tuple[str, Any]] = [
    (name, replace(envs.ENVS[name].config(), side=side, open_share=share))
    for name, side, share in (
        (GRID, 5, 0.0),
        (GRID, 7, 0.0),
        (GRID, 7, 0.75),
        (POINT, 7, 0.0),
        (ANT, 5, 0.0),
        (ANT, 9, 0.1),
    )
]
VIEWS: list[tuple[str, Any]] = [
    (GRID, GridMazeConfig(side=side, view=view, position=position, open_share=0.25))
    for side, view, position in (
        (7, 0, True),
        (7, 1, True),
        (7, 1, False),
        (5, 3, True),
        (7, 3, False),
        (9, 5, True),
        (7, 5, False),
    )
]
BODIES: list[tuple[str, Any]] = [
    (name, config) for name in (POINT, ANT) for config in envs.ENVS[name].presets.values()
]


def layouts(tasks: Tasks) -> set[bytes]:
    return {walls.tobytes() for walls in tasks.parameter["walls"].to(torch.uint8).numpy()}


@pytest.mark.parametrize(("name", "config"), GENERATED + OTHER_SIDES)
def test_no_layout_of_the_test_list_is_met_in_training(name: str, config: Any) -> None:
    distribution, _ = envs.build(name, config, threads=1)
    met = layouts(distribution.sample(10_000, STREAMS))
    held_out = layouts(distribution.held_out(1000))
    assert not met & held_out
    assert min(len(met), len(held_out)) >= 2


def test_no_larger_maze_of_a_list_is_met_by_training_on_that_side() -> None:
    """Nor are those of the two lists the same: they are drawn apart."""
    shifted = layouts(envs.build(GRID)[0].held_out(1000, "shifted"))
    large, _ = envs.build(GRID, envs.preset(GRID, "rl2-2016-large"))
    assert not layouts(large.sample(10_000, STREAMS)) & shifted


def with_other_goals(tasks: Tasks) -> list[Tasks]:
    """The same walls and start under other goals, one task in each."""
    one = tasks.take(slice(0, 1))
    if "walls" not in one.parameter:
        return [tasks.take(slice(k, k + 1)) for k in range(len(tasks.task_id))]
    start = one.parameter["start"][0].tolist()
    free = [cell for cell in (one.parameter["walls"][0] == 0).nonzero().tolist() if cell != start]
    goals = [free[len(free) * place // NUM_GOALS] for place in range(NUM_GOALS)]
    return [
        Tasks(one.task_id, one.parameter | {"goal": torch.tensor([goal]).float()}) for goal in goals
    ]


def walk(env: VectorTaskEnv, task: Tasks, steps: int) -> Step:
    """E copies under random actions, each kept up for a while: leaves [E, T], obs [E, T + 1, O]."""
    seen, led = [env.reset(task, EPISODES, STREAMS)[0].clone()], []
    running = torch.ones(1, EPISODES, dtype=torch.bool)
    for time in range(steps):
        size = 1 if env.spec.discrete else env.spec.action_size
        hold = 1 if env.spec.discrete else 15
        noise = STREAMS.at(time // hold).uniform("action", 1, (EPISODES, size))
        step = env.step((4 * noise[..., 0]).long() if env.spec.discrete else 2 * noise - 1, running)
        seen.append(step.obs[0].clone())
        led.append(step)
    return Step(
        obs=torch.stack(seen, 1),
        reward=torch.stack([step.reward[0] for step in led], 1),
        terminated=torch.stack([step.terminated[0] for step in led], 1),
        faulty=torch.stack([step.faulty[0] for step in led], 1),
    )


@pytest.mark.parametrize(("name", "config"), VIEWS + BODIES)
def test_where_the_goal_is_shows_in_rewards_and_ends_alone(name: str, config: Any) -> None:
    """The leak rule of the contract has nothing to say where mazes show at the start."""
    distribution, env = envs.build(name, replace(config, horizon=400), threads=1)
    tasks = with_other_goals(distribution.held_out(NUM_GOALS))
    walks = [walk(env, task, STEPS[name]) for task in tasks]
    told_apart = 0
    for place, one in enumerate(walks):
        for other in walks[:place]:
            assert torch.equal(one.obs[:, 0], other.obs[:, 0])
            both = ~(one.terminated | other.terminated).cumsum(1).bool()
            assert torch.equal(one.obs[:, 1:][both], other.obs[:, 1:][both])
            assert both[:, 0].any()
            told_apart += not torch.equal(one.reward, other.reward)
    # Nobody comes by chance to where sparse rewards are; test_maze_bodies has them by hand.
    sparse = name != GRID and config.sparse
    assert told_apart == NUM_GOALS * (NUM_GOALS - 1) // 2 or sparse
