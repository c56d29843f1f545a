"""Maze layouts as tensors: thousands drawn at once, distances in them, and what is wrong with one.

A layout is [side, side] float32, 1 for a wall and 0 for a free cell, indexed (row, column) from the
top left. ``side`` is odd and the outer ring is wall. In a drawn maze the cells with two odd
coordinates are rooms, which are free; those with two even ones are wall; those between two rooms
are what a maze is made of. A perfect maze is a tree: exactly one way leads from any free cell to
any other.
"""

import math

import torch
from torch import Tensor

from metarl.checks import Allowed, InputError
from metarl.seeding import Streams

MIN_SIDE = 5
MAX_SIDE = 25

# Up, right, down, left; direction d is bit d of a set of directions.
_NUM_DIRECTIONS = 4
_STAY = 4
_NUM_CHOICES = 12  # divisible by 1, 2, 3 and 4: a fair choice among so many directions


SIDE = Allowed(
    MIN_SIDE, MAX_SIDE, f"an odd whole number from {MIN_SIDE} to {MAX_SIDE}", whole=True, odd=True
)
"""What a config allows as the side of its mazes."""


def draw_layouts(num_tasks: int, streams: Streams, side: int, open_share: float) -> Tensor:
    """Draw K mazes [K, side, side] by randomised depth-first search, all carved in lockstep.

    Args:
        num_tasks: K.
        streams: whose purposes "maze" and "openings" are used; task k depends on its slot alone.
        side: odd, at least 5.
        open_share: share of the walls left between two rooms that is then taken out, from 0 for
            perfect mazes to 1 for a hall with pillars.

    Raises:
        InputError: ``side`` is even or below 5, or ``open_share`` is not from 0 to 1.
    """
    if side < MIN_SIDE or side % 2 == 0:
        raise InputError([f"side of a maze must be odd and at least {MIN_SIDE}, got {side!r}"])
    if not 0.0 <= open_share <= 1.0:
        raise InputError([f"open_share must be a number from 0 to 1, got {open_share!r}"])
    walls = _carve(num_tasks, streams, side)
    num_openings = math.floor(open_share * ((side - 1) // 2 - 1) ** 2 + 0.5)
    return _open(walls, streams, num_openings) if num_openings else walls


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


def draw_cells(candidates: Tensor, uniform: Tensor) -> Tensor:
    """Pick one of the cells of each maze that are candidates, all equally likely.

    Args:
        candidates: [K, side, side] bool, at least one per maze.
        uniform: [K], from U[0, 1).

    Returns:
        [K, 2] float32, (row, column).
    """
    counts = candidates.flatten(1).cumsum(1)
    rank = (uniform * counts[:, -1]).long()
    place = torch.searchsorted(counts, rank[:, None] + 1)[:, 0]
    side = candidates.shape[-1]
    return torch.stack((place // side, place % side), -1).float()


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


def fault_in_cells(walls: Tensor, start: Tensor, goal: Tensor) -> str | None:
    """Return what is wrong with start [2] and goal [2] in one sound layout [side, side], or None.

    Both must be whole cells inside the maze, free, not the same, with a way between them.
    """
    side = walls.shape[-1]
    for name, cell in (("start", start), ("goal", goal)):
        row, column = (float(x) for x in cell)
        if not (row.is_integer() and column.is_integer()):
            return f"{name} must be a whole cell (row, column), got ({row:g}, {column:g})"
        if not (0 <= row < side and 0 <= column < side):
            return f"{name} must lie in the maze of side {side}, got ({row:g}, {column:g})"
        if walls[int(row), int(column)] != 0:
            return f"{name} must be a free cell, ({row:g}, {column:g}) is a wall"
    if torch.equal(start, goal):
        return f"start and goal must differ, both are ({float(goal[0]):g}, {float(goal[1]):g})"
    moves = distances(walls[None], goal[None])[0]
    if not math.isfinite(float(moves[int(start[0]), int(start[1])])):
        return "goal must be reachable from start, no way leads there"
    return None


def _carve(num_tasks: int, streams: Streams, side: int) -> Tensor:
    """Carve K perfect mazes: one step of every search per iteration, forwards or back."""
    rooms, width = (side - 1) // 2, side + 2
    num_rooms = rooms * rooms
    noise = streams.uniform("maze", num_tasks, (2 * num_rooms - 1,))
    choice = (noise * _NUM_CHOICES).long()
    delta, bits, pick = (table.to(noise.device) for table in _tables(width))
    # A ring of 0 around the outer wall: beyond it there is nothing left to be carved.
    walls = torch.ones(num_tasks, side, side, dtype=torch.uint8, device=noise.device)
    walls = torch.nn.functional.pad(walls, (1, 1, 1, 1)).flatten(1)
    first = (noise[:, :1] * num_rooms).long()
    here = (first // rooms * 2 + 2) * width + first % rooms * 2 + 2
    walls.scatter_(1, here, 0)
    came_from = torch.zeros(num_tasks, width * width, dtype=torch.int64, device=noise.device)
    came_from.scatter_(1, here, here)
    # Each room but the first is entered once, and left backwards at most once.
    for time in range(1, 2 * num_rooms - 1):
        uncarved = walls.gather(1, here + 2 * delta[:_NUM_DIRECTIONS])
        direction = pick[(uncarved * bits).sum(1), choice[:, time]][:, None]
        step = delta[direction]
        there = here + 2 * step
        walls.scatter_(1, torch.cat((here + step, there), 1), 0)
        # A search that has nowhere to go stays (there is here), and goes back instead.
        back = came_from.gather(1, here)
        came_from.scatter_(1, there, here)
        here = torch.where(direction == _STAY, back, there)
    return walls.reshape(num_tasks, width, width)[:, 1:-1, 1:-1].float()


def _tables(width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the offsets of directions, their bits, and the direction by [set, choice]."""
    delta = torch.tensor([-width, 1, width, -1, 0])
    bits = torch.tensor([1 << d for d in range(_NUM_DIRECTIONS)])
    pick = torch.full((1 << _NUM_DIRECTIONS, _NUM_CHOICES), _STAY)
    for subset in range(1, 1 << _NUM_DIRECTIONS):
        members = [d for d in range(_NUM_DIRECTIONS) if subset >> d & 1]
        for choice in range(_NUM_CHOICES):
            pick[subset, choice] = members[choice % len(members)]
    return delta, bits, pick


def _open(walls: Tensor, streams: Streams, num_openings: int) -> Tensor:
    """Take ``num_openings`` of the walls between two rooms out of each perfect maze."""
    num_tasks, side = walls.shape[:2]
    row, column = torch.meshgrid(*[torch.arange(1, side - 1)] * 2, indexing="ij")
    place = (row * side + column)[(row + column) % 2 == 1].to(walls.device)
    flat = walls.flatten(1)
    noise = streams.uniform("openings", num_tasks, (len(place),))
    # What is open already comes last; the sort is stable, so that equal noise is no accident.
    order = torch.where(flat[:, place] == 1, noise, 2.0).argsort(dim=1, stable=True)
    flat = flat.scatter(1, place[order[:, :num_openings]], 0.0)
    return flat.reshape(num_tasks, side, side)
