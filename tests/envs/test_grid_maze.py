"""Grid mazes against a plain loop over one copy, and against numbers done by hand."""

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.envs import drawing
from metarl.envs.grid_maze import PRESETS, GridMazeConfig, GridMazeEnv, shortest_path
from metarl.envs.maze_layouts import distances
from metarl.protocols import CanDraw
from tests.envs.grid_mazes import MAZE, NAME, STREAMS, make, one_task
from tests.envs.mazes import MOVES, layout

UP, RIGHT, DOWN, LEFT = range(4)


def walk(env: GridMazeEnv, moves: list[int]) -> list[tuple[float, bool, list[float]]]:
    """Walk with one copy; return reward, terminated and observation of each step."""
    steps = [env.step(torch.tensor([[move]]), torch.tensor([[True]])) for move in moves]
    return [(step.reward.item(), bool(step.terminated), step.obs[0, 0].tolist()) for step in steps]


class OneWalker:
    """What the module's docstring says, in plain Python."""

    def __init__(self, config: GridMazeConfig, walls: Tensor, start: Tensor, goal: Tensor) -> None:
        self.config, self.walls = config, [[int(x) for x in row] for row in walls.tolist()]
        self.cell = tuple(int(x) for x in start.tolist())
        self.goal = tuple(int(x) for x in goal.tolist())

    def wall(self, row: int, column: int) -> float:
        side = len(self.walls)
        inside = 0 <= row < side and 0 <= column < side
        return float(self.walls[row][column]) if inside else 1.0

    def step(self, action: int) -> tuple[float, bool]:
        there = (self.cell[0] + MOVES[action][0], self.cell[1] + MOVES[action][1])
        self.cell = self.cell if self.wall(*there) else there
        return float(self.cell == self.goal) - self.config.step_cost, self.cell == self.goal

    def obs(self) -> list[float]:
        row, column = self.cell
        middle, half = (len(self.walls) - 1) / 2, (self.config.side - 1) / 2
        seen = [(row - middle) / half, (column - middle) / half] if self.config.position else []
        if self.config.view == 1:
            return seen + [self.wall(row + down, column + across) for down, across in MOVES]
        reach = self.config.view // 2
        if not self.config.view:
            return seen
        rows = range(row - reach, row + reach + 1)
        columns = range(column - reach, column + reach + 1)
        return seen + [self.wall(r, c) for r in rows for c in columns]


@pytest.mark.parametrize("split", ["test", "shifted"])
@pytest.mark.parametrize(
    "config",
    [
        *PRESETS.values(),
        GridMazeConfig(side=5, view=1, step_cost=0.5),
        GridMazeConfig(side=7, view=5, open_share=1.0),
        GridMazeConfig(side=25, view=1, position=False),
    ],
)
def test_batches_walk_as_single_walkers_do(config: GridMazeConfig, split: str) -> None:
    distribution, env = make(config)
    num_tasks, episodes, steps = 4, 3, 60
    tasks = distribution.held_out(num_tasks, split)
    obs = env.reset(tasks, episodes, STREAMS)
    p = tasks.parameter
    walkers = [
        [OneWalker(config, p["walls"][k], p["start"][k], p["goal"][k]) for _ in range(episodes)]
        for k in range(num_tasks)
    ]
    assert obs.shape == (num_tasks, episodes, env.spec.observation_size)
    draws = STREAMS.uniform("actions", num_tasks, (steps, 2, episodes))
    for draw in draws.unbind(1):
        action, running = (4 * draw[:, 0]).long(), draw[:, 1] < 0.9
        step = env.step(action, running)
        for k, e in torch.cartesian_prod(torch.arange(num_tasks), torch.arange(episodes)).tolist():
            walker = walkers[k][e]
            if running[k, e]:
                reward, there = walker.step(int(action[k, e]))
                assert step.reward[k, e].item() == pytest.approx(reward)
                assert step.success is not None
                assert step.terminated[k, e].item() == step.success[k, e].item() == there
            assert torch.equal(step.obs[k, e], torch.tensor(walker.obs()))


def test_rewards_and_the_end_by_hand() -> None:
    config = GridMazeConfig(side=7, step_cost=0.25, position=True, view=0)
    _, env = make(config)
    start = env.reset(one_task((1, 1), (3, 2)), 1, STREAMS)
    assert start[0, 0].tolist() == [pytest.approx(-2 / 3)] * 2
    assert walk(env, [UP, LEFT, DOWN, RIGHT, RIGHT, RIGHT, DOWN, DOWN, LEFT]) == [
        *[(-0.25, False, [pytest.approx(-2 / 3)] * 2)] * 3,
        (-0.25, False, [pytest.approx(-2 / 3), pytest.approx(-1 / 3)]),
        *[(-0.25, False, [pytest.approx(-2 / 3), 0.0])] * 2,
        (-0.25, False, [pytest.approx(-1 / 3), 0.0]),
        (-0.25, False, [0.0, 0.0]),
        (0.75, True, [0.0, pytest.approx(-1 / 3)]),
    ]


def test_views_by_hand() -> None:
    seen = {}
    for view in (1, 3, 5):
        _, env = make(GridMazeConfig(side=7, position=False, view=view))
        seen[view] = env.reset(one_task((3, 2), (1, 1)), 1, STREAMS)[0, 0].tolist()
    assert seen[1] == [1, 0, 1, 0]
    assert seen[3] == [1, 1, 0, 0, 0, 0, 0, 1, 1]
    assert seen[5] == [
        *(1, 0, 0, 0, 1),
        *(1, 1, 1, 0, 1),
        *(1, 0, 0, 0, 1),
        *(1, 0, 1, 1, 1),
        *(1, 0, 0, 0, 0),
    ]
    _, env = make(GridMazeConfig(side=7, position=False, view=5))
    corner = env.reset(one_task((5, 5), (1, 1)), 1, STREAMS)[0, 0].view(5, 5)
    assert torch.equal(corner[:4, :4], layout(MAZE)[3:, 3:])
    assert (corner[4] == 1).all()
    assert (corner[:, 4] == 1).all()


@pytest.mark.parametrize(
    ("position", "view", "size"),
    [(True, 0, 2), (True, 1, 6), (True, 3, 11), (True, 5, 27), (False, 1, 4), (False, 5, 25)],
)
def test_the_observation_does_not_grow_with_the_maze(position: bool, view: int, size: int) -> None:
    for side in (5, 9, 25):
        distribution, env = make(GridMazeConfig(side=side, position=position, view=view))
        assert env.spec.observation_size == size
        for split in ("test", "shifted"):
            obs = env.reset(distribution.held_out(2, split), 3, STREAMS)
            assert obs.shape == (2, 3, size)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_ceiling_is_what_the_shortest_way_gets(preset: str) -> None:
    config = PRESETS[preset]
    distribution, env = make(config)
    tasks = distribution.held_out(30)
    ceiling = shortest_path(config, tasks, 3, STREAMS)
    assert (ceiling.shape, ceiling.dtype) == ((30, 3), torch.float32)
    moves = distances(tasks.parameter["walls"], tasks.parameter["goal"])
    row, column = tasks.parameter["start"].long().unbind(-1)
    env.reset(tasks, 1, STREAMS)
    running, total = torch.ones(30, 1, dtype=torch.bool), torch.zeros(30)
    every = torch.arange(30)
    for _ in range(config.horizon):
        around = torch.stack([moves[every, row + down, column + across] for down, across in MOVES])
        action = around.argmin(0)
        step = env.step(action[:, None], running)
        total += (step.reward * running)[:, 0]
        running = running & ~step.terminated
        there = torch.tensor(MOVES)[action] * running.long()
        row, column = row + there[:, 0], column + there[:, 1]
    assert not running.any()
    assert torch.allclose(total[:, None].expand(-1, 3), ceiling, atol=1e-5)
    assert envs.ENVS[NAME].ceilings["shortest path"] is shortest_path


def test_the_ceiling_by_hand() -> None:
    tasks = one_task((1, 1), (1, 5))
    for horizon, expected in ((15, -0.6), (16, 1 - 0.64), (100, 1 - 0.64)):
        config = GridMazeConfig(side=7, horizon=horizon)
        found = shortest_path(config, tasks, 2, STREAMS)
        assert found.tolist() == [[pytest.approx(expected)] * 2]


def test_where_the_goal_lies_shows_in_rewards_and_ends() -> None:
    _, env = make(GridMazeConfig(side=7))
    ends = []
    for goal in ((1, 3), (3, 3)):
        env.reset(one_task((1, 1), goal), 1, STREAMS)
        ends.append([terminated for _, terminated, _ in walk(env, [RIGHT, RIGHT, DOWN, DOWN])])
    assert ends == [[False, True, False, False], [False, False, False, True]]


def test_a_picture_shows_walls_start_goal_and_walker() -> None:
    _, env = make(GridMazeConfig(side=7))
    env.reset(one_task((3, 2), (1, 5)), 2, STREAMS)
    env.step(torch.tensor([[UP, LEFT]]), torch.tensor([[True, True]]))
    assert isinstance(env, CanDraw)
    for episode, cell in ((0, (3, 2)), (1, (3, 1))):
        image = env.picture(0, episode)
        assert (image.shape, str(image.dtype)) == ((112, 112, 3), "uint8")
        corners = image[1::16, 1::16]
        walls = (corners == drawing.WALL).all(-1)
        assert torch.equal(torch.from_numpy(walls), layout(MAZE) == 1)
        assert tuple(corners[3, 2]) == drawing.START
        assert tuple(corners[1, 5]) == drawing.GOAL
        middles = (image[8::16, 8::16] == drawing.AGENT).all(-1)
        assert [tuple(place) for place in torch.from_numpy(middles).nonzero().tolist()] == [cell]
