"""Maze layouts as tensors: distances in them, what is wrong with one, and which part it is of.

A layout is [side, side] float32, 1 for a wall and 0 for a free cell, indexed (row, column) from the
top left. ``side`` is odd and the outer ring is wall. ``maze_drawing`` draws them.

Every layout is of one of two parts, about half of them of each, by a hash of its walls: training
draws from one and test lists from the other, so that a maze of a test list is new to who meets it
there. Other seeds alone would not do that: small sides have few mazes.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from metarl.checks import Allowed, InputError
from metarl.seeding import philox

MIN_SIDE = 5
MAX_SIDE = 25

# With this key both parts have half of the perfect mazes of side 5, 7 and 9: 2, 44 and 1910 each.
_PARTS = (0x6D617A65, 33)


SIDE = Allowed(
    MIN_SIDE, MAX_SIDE, f"an odd whole number from {MIN_SIDE} to {MAX_SIDE}", whole=True, odd=True
)
"""What a config allows as the side of its mazes."""


def in_test_part(walls: Tensor) -> Tensor:
    """Return whether layouts [..., side, side] are of the test part, and not of training's: [...].

    A bit of a hash of the walls: the sum of a random number of 32 bits for each wall, hashed again.
    """
    cell = torch.arange(walls.shape[-1], device=walls.device)
    row, column = torch.meshgrid(cell, cell, indexing="ij")
    nothing = torch.zeros_like(row)
    word = philox((row, column, nothing, nothing), _PARTS)[..., 0]
    total = (walls.long() * word).sum((-2, -1))
    nothing = torch.zeros_like(total)
    low, high = total & (2**32 - 1), total >> 32
    return philox((low, high, nothing, nothing + 1), _PARTS)[..., 0] % 2 == 1


def distances(walls: Tensor, goal: Tensor) -> Tensor:
    """Return the number of moves from each cell to the goal, [K, side, side]; inf where none lead.

    Breadth-first search from ``goal`` [K, 2] (row, column) through all layouts [K, side, side] at
    once. Layouts must have a closed outer ring; nothing leads to a goal in a wall.
    """
    num_tasks, side = walls.shape[:2]
    # Moves are shifts of flat layouts: what a shift carries into another row falls into its wall.
    unmet = walls.flatten(1) == 0
    frontier = torch.zeros_like(unmet).scatter_(1, flat_cells(goal, side)[:, None], True)
    moves = torch.full(unmet.shape, math.inf, device=walls.device)
    frontier &= unmet
    number = 0
    while frontier.any():
        moves.masked_fill_(frontier, number)
        unmet &= ~frontier
        near = torch.zeros_like(unmet)
        for shift in (1, side):
            near[:, shift:] |= frontier[:, :-shift]
            near[:, :-shift] |= frontier[:, shift:]
        frontier = near & unmet
        number += 1
    return moves.reshape(num_tasks, side, side)


def flat_cells(cells: Tensor, side: int) -> Tensor:
    """Return the places [...] int64 of cells [..., 2] (row, column) in a flat layout."""
    cells = cells.long()
    return cells[..., 0] * side + cells[..., 1]


def fault_in_layout(walls: Tensor) -> str | None:
    """Return what is allowed, where one layout breaks it, else None: the rule of a ``Parameter``.

    A layout must be a square of odd side from 5 on, of 0 and 1 only, with a closed outer ring and
    at least two free cells.
    """
    shape = tuple(walls.shape)
    if walls.ndim != 2 or shape[0] != shape[1]:
        return f"a square maze, [side, side]; this one is {list(shape)}"
    if shape[0] < MIN_SIDE or shape[0] % 2 == 0:
        return f"a maze of odd side, at least {MIN_SIDE}; this one's is {shape[0]}"
    other = walls[(walls != 0) & (walls != 1)]
    if len(other):
        return f"a maze of 0 (free) and 1 (wall); this one has {float(other[0]):.4g} somewhere"
    inside = walls[1:-1, 1:-1]
    gaps = ((walls == 0).sum() - (inside == 0).sum()).item()
    if gaps:
        return f"a maze whose outer ring is wall; this one's has {gaps} free cells"
    if (inside == 0).sum() < 2:
        return "a maze with at least two free cells; this one has fewer"
    return None


def refuse_faulty_layouts(owner: str, walls: Tensor) -> None:
    """Check the layouts of K tasks, [K, side, side], all at once.

    Raises:
        InputError: one breaks the rule of ``fault_in_layout``; ``owner`` and its task are named.
    """
    if walls.ndim != 3 or walls.shape[1] != walls.shape[2]:
        wrong = torch.ones(1, dtype=torch.bool)
    else:
        side = walls.shape[-1]
        inside = walls[:, 1:-1, 1:-1]
        num_free = (inside == 0).flatten(1).sum(1)
        wrong = ((walls != 0) & (walls != 1)).flatten(1).any(1) | (num_free < 2)
        wrong |= (walls == 0).flatten(1).sum(1) != num_free
        wrong |= torch.full_like(wrong, side < MIN_SIDE or side % 2 == 0)
    if wrong.any():
        task = int(wrong.nonzero()[0, 0])
        raise InputError([f"{owner}: walls of task {task} must be {fault_in_layout(walls[task])}"])


def refuse_faulty_cells(owner: str, walls: Tensor, cells: Mapping[str, Tensor]) -> None:
    """Check where K tasks start and end, all at once.

    Args:
        owner: whose tasks these are, for the message.
        walls: [K, side, side], sound layouts.
        cells: "start" and "goal", [K, 2] (row, column).

    Raises:
        InputError: a cell is not whole, not in the maze or a wall; or no way of at least one move
            leads from the start to the goal. ``owner``, the task and what came are named.
    """
    side = walls.shape[-1]
    good = torch.ones(len(walls), dtype=torch.bool, device=walls.device)
    for cell in cells.values():
        good &= ((cell >= 0) & (cell < side) & (cell == cell.round())).all(1)
    # Cells that are none are out of the search, which takes the others as they come.
    start, goal = (torch.where(good[:, None], cells[name], 0.0) for name in ("start", "goal"))
    moves = distances(walls, goal).flatten(1).gather(1, flat_cells(start, side)[:, None])[:, 0]
    wrong = ~good | (moves == 0) | moves.isinf()
    if wrong.any():
        task = int(wrong.nonzero()[0, 0])
        own = {name: cell[task] for name, cell in cells.items()}
        raise InputError([f"{owner}: {_fault_in_cells(walls[task], own, f'of task {task}')}"])


def fault_in_cell(cell: Tensor) -> str | None:
    """Return what is allowed, where a cell [2] is not whole, else None: a ``Parameter``'s rule."""
    return None if torch.equal(cell, cell.round()) else "whole numbers"


def _fault_in_cells(walls: Tensor, cells: Mapping[str, Tensor], whose: str) -> str:
    """Return what is wrong with a start and a goal in one layout."""
    side = walls.shape[-1]
    came = {name: "({:g}, {:g})".format(*cell.tolist()) for name, cell in cells.items()}
    for name, cell in cells.items():
        if not torch.equal(cell, cell.round()) or not ((cell >= 0) & (cell < side)).all():
            return f"{name} {whose} must be a cell of its maze of side {side}, got {came[name]}"
        if walls[tuple(cell.long())] != 0:
            return f"{name} {whose} must be a free cell of its maze, {came[name]} is a wall"
    if torch.equal(cells["start"], cells["goal"]):
        return f"start and goal {whose} must differ, both are {came['goal']}"
    return f"goal {whose} must be reachable from its start {came['start']}, got {came['goal']}"
