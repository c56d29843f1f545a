"""The two parts of layouts; distances against a queue; faulty layouts and cells."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metarl.checks import InputError
from metarl.envs.maze_layouts import (
    SIDE,
    distances,
    fault_in_layout,
    in_test_part,
    refuse_faulty_cells,
    refuse_faulty_layouts,
)
from metarl.seeding import Streams
from tests.envs.mazes import APART, ROOM, STREAMS, Room, carved, layout, queue_distances

PINNED = "100110011101000110110001"


def test_the_part_is_a_hash_of_all_walls() -> None:
    """Every cell counts, half of all layouts are of each part, and the bits are pinned."""
    walls = (STREAMS.uniform("any walls", 4000, (9, 9)) < 0.5).float()
    part = in_test_part(walls)
    assert abs(part.double().mean() - 0.5) < 0.03
    for cell in range(81):
        turned = walls[:200].clone()
        turned.view(200, 81)[:, cell] = 1 - turned.view(200, 81)[:, cell]
        assert abs((in_test_part(turned) != part[:200]).double().mean() - 0.5) < 0.2
    assert torch.equal(in_test_part(walls.view(40, 100, 9, 9)), part.view(40, 100))
    assert torch.equal(in_test_part(walls.to(torch.uint8)), part)
    assert "".join(str(int(bit)) for bit in part[:24]) == PINNED


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


def test_a_faulty_layout_among_sound_ones_is_named() -> None:
    for walls, text in (
        (ROOM * 0.5, r"0 \(free\) and 1 \(wall\); this one has 0.5"),
        (ROOM.masked_fill(ROOM == 0, math.nan), "has nan"),
        (layout("#.###  #...#  #.#.#  #...#  ####."), "outer ring is wall; this one's has 2 free"),
        (torch.ones(5, 5), "at least two free cells"),
    ):
        with pytest.raises(InputError, match=rf"^Mazes: walls of task 2 must be a maze.*{text}"):
            refuse_faulty_layouts("Mazes", torch.stack((ROOM, ROOM, walls, walls, ROOM)))
    for walls, text in ((torch.ones(3, 6, 6), "odd side.*is 6"), (torch.ones(2, 5, 7), "square")):
        with pytest.raises(InputError, match=f"^Mazes: walls of task 0 must be a .*{text}"):
            refuse_faulty_layouts("Mazes", walls)
    refuse_faulty_layouts("Mazes", torch.stack((ROOM, ROOM)))


def test_all_layouts_at_once_are_judged_as_one_by_one() -> None:
    walls = torch.cat((carved(60, 7), ROOM.new_ones(20, 7, 7)))
    draws = STREAMS.uniform("spoiled", len(walls), (2, 3))
    cells = (7 * draws[:, 1, :2]).long()
    for one, place, (kind, *_) in zip(walls, cells, draws[:, 0].tolist(), strict=True):
        one[place[0], place[1]] = 0.0 if kind < 0.6 else 2.0 if kind < 0.7 else 1.0
    sound = [fault_in_layout(one) is None for one in walls]
    assert 10 < sum(sound) < 70
    for one, fine in zip(walls, sound, strict=True):
        if fine:
            refuse_faulty_layouts("Mazes", one[None])
        else:
            with pytest.raises(InputError, match="walls of task 0 must be a maze"):
                refuse_faulty_layouts("Mazes", one[None])
    with pytest.raises(InputError, match=f"walls of task {sound.index(False)} must be"):
        refuse_faulty_layouts("Mazes", walls)


@pytest.mark.parametrize(
    ("start", "goal", "message"),
    [
        ((1, 1), (5, 5), None),
        ((1, 2), (5, 5), r"start of task 1 must be a free cell of its maze, \(1, 2\) is a wall"),
        ((1, 1), (0, 5), r"goal of task 1 must be a free cell of its maze, \(0, 5\) is a wall"),
        ((1, 1), (1, 7), r"goal of task 1 must be a cell of its maze of side 7, got \(1, 7\)"),
        ((-1, 1), (1, 1), r"start of task 1 must be a cell of its maze of side 7, got \(-1, 1\)"),
        ((1.5, 1), (1, 1), r"start of task 1 must be a cell of its maze .*, got \(1.5, 1\)"),
        ((1, 1), (1, math.nan), r"goal of task 1 must be a cell of its maze .*, got \(1, nan\)"),
        ((1, 1), (1, 1), r"start and goal of task 1 must differ, both are \(1, 1\)"),
        (
            (1, 1),
            (1, 3),
            r"goal of task 1 must be reachable from its start \(1, 1\), got \(1, 3\)",
        ),
    ],
)
def test_faults_in_cells(start: Room, goal: Room, message: str | None) -> None:
    cells = {"start": torch.tensor([(1, 1), start]), "goal": torch.tensor([(5, 5), goal])}
    walls = torch.stack((APART, APART))
    if message is None:
        refuse_faulty_cells("Mazes", walls, cells)
        return
    with pytest.raises(InputError, match=f"^Mazes: {message}$"):
        refuse_faulty_cells("Mazes", walls, cells)


def test_sides_of_configs() -> None:
    assert all(SIDE.accepts(side) for side in (5, 9, 25))
    assert not any(SIDE.accepts(side) for side in (3, 8, 27, -5, 9.0, True, "9", None))
