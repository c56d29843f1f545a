"""Tasks of bodies in mazes: starts, goals, and the layouts that are refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metarl.envs.maze_layouts import distances, flat_cells
from metarl.envs.maze_tasks import LARGE, MEDIUM, UMAZE
from tests.envs.maze_bodies import CELL, CONFIGS, POINT, STREAMS, both, build, tasks


@both
def test_starts_lie_in_the_starts_cell_at_rest(name: str) -> None:
    distribution, env = build(name)
    drawn = distribution.sample(20, STREAMS)
    obs = env.reset(drawn, 50, STREAMS).double()
    side, cell = drawn.parameter["walls"].shape[-1], CELL[name]
    start = drawn.parameter["start"][:, None].double()
    middle = torch.stack((start[..., 1] - (side - 1) / 2, (side - 1) / 2 - start[..., 0]), -1)
    off = obs[..., :2] / cell - middle
    assert off.abs().max() <= 0.25 + 1e-6
    assert off.abs().max() > 0.24
    assert off.mean().abs() < 0.02
    rest = torch.unique(obs[..., 2:].flatten(0, 1), dim=0)
    upright = [0.75, 1.0] + [0.0] * 25
    assert rest.tolist() == ([[0.0, 0.0]] if name == POINT else [upright])


@both
def test_drawn_mazes_lead_from_start_to_goal(name: str) -> None:
    distribution, env = build(name)
    drawn = distribution.sample(300, STREAMS)
    walls, start, goal = (drawn.parameter[leaf] for leaf in ("walls", "start", "goal"))
    side = walls.shape[-1]
    off = goal - goal.round()
    assert 0.24 < off.abs().max() <= 0.25
    moves = distances(walls, goal.round()).flatten(1)
    away = moves.gather(1, flat_cells(start, side)[:, None])
    assert away.isfinite().all()
    assert away.min() == (side - 1) // 2
    cells = {tuple(cell) for cell in goal.round().tolist()}
    rooms = {(row, column) for row in range(1, side, 2) for column in range(1, side, 2)}
    assert {(float(row), float(column)) for row, column in rooms} <= cells
    env.reset(drawn, 1, STREAMS)


@pytest.mark.parametrize(("layout", "num_free"), [(UMAZE, 6), (MEDIUM, 25), (LARGE, 45)])
def test_goals_of_a_layout_are_all_its_free_cells_but_the_start(layout: str, num_free: int) -> None:
    distribution, env = build(POINT, layout=layout)
    drawn = distribution.sample(2000, STREAMS)
    assert drawn.parameter.keys() == {"goal"}
    cells = {tuple(map(int, cell)) for cell in drawn.parameter["goal"].round().tolist()}
    rows = layout.split("/")
    free = {(r, c) for r, row in enumerate(rows) for c, mark in enumerate(row) if mark == "0"}
    assert cells == free
    assert len(free) == num_free
    env.reset(drawn, 1, STREAMS)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("111/1s1/111", r"with one start s and a free cell 0 at least, got '111/1s1/111'"),
        ("1111/1001/1111", r"with one start s"),
        ("11111/1s0s1/11111", r"with one start s"),
        ("1111/1s00/1111", r"closed by walls all round, got a free cell at the edge"),
        ("1011/1s01/1111", r"closed by walls all round"),
        ("11s1/1001/1111", r"closed by walls all round"),
        ("1111/1s01/111", r"rows of one length, got 3 and 4"),
        ("1111/1s01/", r"rows of one length, got 0 and 4"),
        ("#111/1s01/1111", r"rows of 1, 0 and s with / between them, got '#' in it"),
        ("11111/1s101/11111", r"all be reached, got none to \(row, column\) \(1, 3\)"),
    ],
)
@both
def test_a_layout_that_cannot_be_is_refused(name: str, layout: str, message: str) -> None:
    owner = CONFIGS[name].__name__
    with pytest.raises(ValueError, match=rf"^{owner}\.layout must be .*{message}"):
        CONFIGS[name](layout=layout)


@pytest.mark.parametrize(("field", "wrong"), [("side", 8), ("side", 3), ("open_share", 1.5)])
@both
def test_a_bad_maze_is_refused(name: str, field: str, wrong: float) -> None:
    with pytest.raises(ValueError, match=rf"^{CONFIGS[name].__name__}\.{field} must be "):
        replace(CONFIGS[name](), **{field: wrong})


def a_maze(side: int = 5) -> dict[str, Any]:
    walls = torch.ones(2, side, side)
    walls[:, 1:-1, 1:-1] = 0
    return {"walls": walls, "start": [[1.0, 1.0]] * 2, "goal": [[3.0, 3.2]] * 2}


def test_a_task_that_cannot_be_is_refused() -> None:
    _, env = build(POINT, side=5)
    open_ring, cut, other, grey = (a_maze() for _ in range(4))
    open_ring["walls"][1, 0, 2] = 0
    cut["walls"][1, 2] = 1
    grey["walls"][0, 2, 2] = 0.5
    other["walls"][1, 1, 1] = other["walls"][0, 3, 3] = 1
    nowhere = {"goal": [[3.0, 3.2], [np.nan, 1.0]]}
    faults = [
        (a_maze(6), r"walls must be 5 x 5, as the config's side says, got 6 x 6$"),
        (a_maze(7), r"walls must be 5 x 5, as the config's side says, got 7 x 7$"),
        (open_ring, r"walls of task 1 must be a maze whose outer ring is wall; .* has 1 free"),
        (grey, r"walls of task 0 must be a maze of 0 \(free\) and 1 \(wall\); this one has 0.5"),
        (cut, r"goal of task 1 must be reachable from its start \(1, 1\), got \(3, 3\)$"),
        (other, r"goal of task 0 must be a free cell of its maze, \(3, 3\) is a wall$"),
        (other | {"goal": [[2.0, 2.0]] * 2}, r"start of task 1 must be .*, \(1, 1\) is a wall$"),
        (a_maze() | {"goal": [[1.0, 1.2]] * 2}, r"start and goal of task 0 must differ"),
        (a_maze() | {"goal": [[1.0, 9.0]] * 2}, r"goal of task 0 must be a cell of .* of side 5"),
        (a_maze() | {"start": [[1.0, 1.5]] * 2}, r"start of task 0 must be a cell .*\(1, 1.5\)"),
        (a_maze() | nowhere, r"goal of task 1 must be a cell of its maze"),
    ]
    for parameter, message in faults:
        with pytest.raises(ValueError, match=f"^{POINT}: {message}"):
            env.reset(tasks(**parameter), 2, STREAMS)
    env.reset(tasks(**a_maze()), 2, STREAMS)
    _, env = build(POINT, layout=UMAZE)
    with pytest.raises(
        ValueError, match=rf"^{POINT}: goal of task 2 must be .*\(2, 1\) is a wall$"
    ):
        env.reset(tasks(goal=[[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]]), 2, STREAMS)
    with pytest.raises(ValueError, match="takes tasks with goal; got goal, start, walls"):
        env.reset(tasks(**a_maze()), 2, STREAMS)


@pytest.mark.parametrize("own", [{"side": 5}, {"open_share": 0.5}, {"side": 11, "open_share": 0.5}])
@both
def test_a_layout_takes_no_side_or_open_share(name: str, own: dict[str, float]) -> None:
    config, usual = CONFIGS[name], CONFIGS[name]().side
    with pytest.raises(ValueError, match=rf"with a layout they must stay {usual} and 0, got "):
        config(layout=UMAZE, **own)
    assert config(layout=UMAZE, side=usual, open_share=0.0) == config(layout=UMAZE)
