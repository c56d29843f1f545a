"""Mazes drawn in lockstep against mazes carved one by one; distances against a queue."""

import math
from collections import Counter, deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metarl.checks import InputError
from metarl.envs.maze_layouts import (
    SIDE,
    distances,
    draw_cells,
    draw_layouts,
    fault_in_cells,
    fault_in_layout,
)
from metarl.seeding import Streams

STREAMS = Streams(3, ("mazes",))
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
SIDES = (5, 7, 9, 15, 25, 29)
Room = tuple[int, int]


def layout(text: str) -> Tensor:
    return torch.tensor([[float(letter == "#") for letter in row] for row in text.split()])


ROOM = layout("#####  #...#  #.#.#  #...#  #####")
APART = layout("#######  #.#...#  #.#.#.#  #.#...#  #.#####  #.....#  #######")


def queue_distances(walls: Tensor, goal: Room) -> Tensor:
    moves = torch.full(walls.shape, math.inf)
    if walls[goal] == 0:
        moves[goal] = 0
    waiting = deque([goal] if walls[goal] == 0 else [])
    while waiting:
        row, column = waiting.popleft()
        for down, across in MOVES:
            cell = (row + down, column + across)
            if walls[cell] == 0 and math.isinf(moves[cell]):
                moves[cell] = moves[row, column] + 1
                waiting.append(cell)
    return moves


def carve_alone(noise: list[float], side: int) -> Tensor:
    """One maze with a stack, from the noise that the lockstep search uses."""
    rooms = (side - 1) // 2
    walls = torch.ones(side, side)
    first = int(noise[0] * rooms**2)
    stack = [(first // rooms, first % rooms)]
    seen = set(stack)
    walls[2 * stack[0][0] + 1, 2 * stack[0][1] + 1] = 0
    for number in noise[1:]:
        if not stack:
            break
        row, column = stack[-1]
        near = [(row + down, column + across) for down, across in MOVES]
        near = [room for room in near if min(room) >= 0 and max(room) < rooms and room not in seen]
        if not near:
            stack.pop()
            continue
        there = near[int(number * 12) % len(near)]
        walls[row + there[0] + 1, column + there[1] + 1] = 0
        walls[2 * there[0] + 1, 2 * there[1] + 1] = 0
        seen.add(there)
        stack.append(there)
    return walls


def tree_odds(rooms: int) -> dict[frozenset[tuple[Room, Room]], float]:
    """The probability of every spanning tree under randomised depth-first search, enumerated."""
    odds: Counter[frozenset[tuple[Room, Room]]] = Counter()

    def search(stack: list[Room], edges: list[tuple[Room, Room]], chance: float) -> None:
        if len(edges) == rooms**2 - 1:
            odds[frozenset(edges)] += chance  # type: ignore[assignment]
            return
        row, column = stack[-1]
        seen = {room for edge in edges for room in edge} | set(stack)
        near = [(row + down, column + across) for down, across in MOVES]
        near = [room for room in near if min(room) >= 0 and max(room) < rooms and room not in seen]
        if not near:
            search(stack[:-1], edges, chance)
        for there in near:
            edge = (min(stack[-1], there), max(stack[-1], there))
            search([*stack, there], [*edges, edge], chance / len(near))

    for first in range(rooms**2):
        search([(first // rooms, first % rooms)], [], 1 / rooms**2)
    return dict(odds)


@pytest.mark.parametrize("side", SIDES)
def test_a_perfect_maze_is_a_tree_of_all_rooms(side: int) -> None:
    walls = draw_layouts(40, STREAMS, side, 0.0)
    assert (walls.shape, walls.dtype) == ((40, side, side), torch.float32)
    rooms = ((side - 1) // 2) ** 2
    free = walls == 0
    assert free[:, 1::2, 1::2].all()
    assert not free[:, ::2, ::2].any()
    assert all(fault_in_layout(one) is None for one in walls)
    # As many links as cells less one, and all cells connected: there is no cycle.
    assert (free.flatten(1).sum(1) == 2 * rooms - 1).all()
    links = (free[:, 1:] & free[:, :-1]).sum((1, 2)) + (free[..., 1:] & free[..., :-1]).sum((1, 2))
    assert (links == 2 * rooms - 2).all()
    for one in walls:
        moves = queue_distances(one, (1, 1))
        assert torch.equal(torch.isfinite(moves), one == 0)


@pytest.mark.parametrize("side", [5, 7, 13, 25])
def test_lockstep_carves_what_a_stack_carves(side: int) -> None:
    walls = draw_layouts(12, STREAMS, side, 0.0)
    noise = STREAMS.uniform("maze", 12, (2 * ((side - 1) // 2) ** 2 - 1,)).double().tolist()
    for one, numbers in zip(walls, noise, strict=True):
        assert torch.equal(one, carve_alone(numbers, side))


def test_mazes_are_as_frequent_as_depth_first_search_makes_them() -> None:
    number = 20_000
    odds = tree_odds(3)
    assert sum(odds.values()) == pytest.approx(1.0)
    met: Counter[frozenset[tuple[Room, Room]]] = Counter()
    for one in draw_layouts(number, STREAMS, 7, 0.0).numpy():
        across = [((r, c), (r, c + 1)) for r, c in np.argwhere(one[1::2, 2:-1:2] == 0).tolist()]
        down = [((r, c), (r + 1, c)) for r, c in np.argwhere(one[2:-1:2, 1::2] == 0).tolist()]
        met[frozenset(across + down)] += 1
    assert met.keys() <= odds.keys()
    squares = sum((met[tree] - number * p) ** 2 / (number * p) for tree, p in odds.items())
    freedom = len(odds) - 1
    assert abs(squares - freedom) < 4 * math.sqrt(2 * freedom)


def test_mazes_differ_and_depend_on_their_slot_alone() -> None:
    walls = draw_layouts(300, STREAMS, 9, 0.1)
    assert len(walls.flatten(1).unique(dim=0)) > 290
    assert torch.equal(walls[100:], draw_layouts(200, STREAMS.from_task(100), 9, 0.1))
    assert not torch.equal(walls, draw_layouts(300, STREAMS.at("other"), 9, 0.1))


@pytest.mark.parametrize(("share", "openings"), [(0.0, 0), (0.1, 3), (0.5, 13), (1.0, 25)])
def test_a_share_of_the_walls_between_rooms_is_taken_out(share: float, openings: int) -> None:
    perfect, opened = (draw_layouts(200, STREAMS, 13, s) for s in (0.0, share))
    gone = perfect - opened
    assert set(gone.unique().tolist()) <= {0.0, 1.0}
    assert (gone.sum((1, 2)) == openings).all()
    assert all(fault_in_layout(one) is None for one in opened)
    assert (opened[:, 2:-1:2, 2:-1:2] == 1).all()
    if share == 1.0:
        assert (opened[:, 1:-1, 1:-1].sum((1, 2)) == 25).all()


def test_every_wall_is_as_likely_to_be_taken_out() -> None:
    perfect, opened = (draw_layouts(8000, STREAMS, 7, share) for share in (0.0, 0.25))
    between = torch.zeros(7, 7, dtype=torch.bool)
    between[1:-1, 1:-1] = (torch.arange(5)[:, None] + torch.arange(5)) % 2 == 1
    share = (perfect - opened).sum(0)[between] / perfect.sum(0)[between]
    assert ((share - 0.25).abs() < 0.04).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 14), st.floats(0.0, 0.7))
def test_distances_are_those_of_a_queue(seed: int, side: int, density: float) -> None:
    streams = Streams(seed)
    walls = (streams.uniform("walls", 6, (side, side)) < density).float()
    walls[:, (0, -1)] = walls[:, :, (0, -1)] = 1.0
    goal = (streams.uniform("goal", 6, (2,)) * side).floor()
    found = distances(walls, goal)
    assert found.dtype == torch.float32
    for one, cell, moves in zip(walls, goal.long().tolist(), found, strict=True):
        assert torch.equal(moves, queue_distances(one, (cell[0], cell[1])))


def test_distances_by_hand() -> None:
    inf = math.inf
    moves = distances(ROOM[None], torch.tensor([[1.0, 3.0]]))[0, 1:-1, 1:-1]
    assert moves.tolist() == [[2, 1, 0], [3, inf, 1], [4, 3, 2]]
    walls = torch.stack((APART, APART))
    far, wall = distances(walls, torch.tensor([[5.0, 5.0], [1.0, 2.0]]))
    assert far[1].tolist() == [inf, 8, inf, inf, inf, inf, inf]
    assert torch.isinf(wall).all()


def test_candidates_are_drawn_with_equal_chances() -> None:
    candidates = torch.zeros(3, 5, 5, dtype=torch.bool)
    candidates[0, 2, 3] = True
    candidates[1] = candidates[2] = ROOM == 0
    edges = torch.tensor([0.7, 0.0, 1 - 2.0**-24])
    assert draw_cells(candidates, edges).tolist() == [[2, 3], [1, 1], [3, 3]]
    every = draw_cells(candidates[1:2].expand(800, -1, -1), torch.arange(800) / 800)
    cells, number = every.unique(dim=0, return_counts=True)
    assert (len(cells), set(number.tolist())) == (8, {100})


@pytest.mark.parametrize(
    ("walls", "message"),
    [
        (ROOM[:4], r"square maze.*\[4, 5\]"),
        (ROOM[None], r"square maze.*\[1, 5, 5\]"),
        (torch.ones(6, 6), "odd side, at least 5; this one's is 6"),
        (torch.ones(3, 3), "odd side, at least 5; this one's is 3"),
        (ROOM * 0.5, r"0 \(free\) and 1 \(wall\); this one has 0.5"),
        (ROOM.masked_fill(ROOM == 0, math.nan), "has nan"),
        (layout("#.###  #...#  #.#.#  #...#  ####."), "outer ring is wall; this one's has 2 free"),
        (torch.ones(5, 5), "at least two free cells"),
        (ROOM, None),
        (APART, None),
    ],
)
def test_faults_in_layouts(walls: Tensor, message: str | None) -> None:
    found = fault_in_layout(walls)
    if message is None:
        assert found is None
    else:
        with pytest.raises(ValueError, match=message):
            raise ValueError(found)


@pytest.mark.parametrize(
    ("start", "goal", "message"),
    [
        ((1, 1), (5, 5), None),
        ((1, 2), (5, 5), r"start must be a free cell, \(1, 2\) is a wall"),
        ((1, 1), (0, 5), r"goal must be a free cell, \(0, 5\) is a wall"),
        ((1, 1), (1, 7), r"goal must lie in the maze of side 7, got \(1, 7\)"),
        ((-1, 1), (1, 1), r"start must lie in the maze of side 7, got \(-1, 1\)"),
        ((1.5, 1), (1, 1), r"start must be a whole cell \(row, column\), got \(1.5, 1\)"),
        ((1, 1), (1, math.nan), r"goal must be a whole cell"),
        ((1, 1), (1, 1), r"must differ, both are \(1, 1\)"),
        ((1, 1), (1, 3), "goal must be reachable from start"),
    ],
)
def test_faults_in_cells(start: Room, goal: Room, message: str | None) -> None:
    cells = (torch.tensor(cell, dtype=torch.float32) for cell in (start, goal))
    found = fault_in_cells(APART, *cells)
    if message is None:
        assert found is None
    else:
        with pytest.raises(ValueError, match=message):
            raise ValueError(found)


@pytest.mark.parametrize(("side", "share"), [(8, 0.0), (3, 0.0), (9, -0.1), (9, 1.1)])
def test_what_cannot_be_drawn_is_refused(side: int, share: float) -> None:
    with pytest.raises(InputError, match="must be"):
        draw_layouts(2, STREAMS, side, share)


def test_sides_of_configs() -> None:
    assert all(SIDE.accepts(side) for side in (5, 9, 25))
    assert not any(SIDE.accepts(side) for side in (3, 8, 27, -5, 9.0, True, "9", None))
