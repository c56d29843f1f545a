"""Mazes drawn by the thousand: layouts of one part, and where one starts and ends in them.

In a drawn maze the cells with two odd coordinates are rooms, which are free; those with two even
ones are wall; those between two rooms are what a maze is made of. A perfect maze is a tree: exactly
one way leads from any free cell to any other.

Randomised depth-first search carves 4 different perfect mazes of side 5, 88 of side 7 and 3820 of
side 9; half of them are training's, the others the test list's (``maze_layouts``).
"""

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from metarl.checks import InputError
from metarl.envs.maze_layouts import MIN_SIDE, distances, in_test_part
from metarl.seeding import Streams

Part: TypeAlias = Literal["train", "test"]
"""For whom layouts are drawn: the two have none in common."""

# Up, right, down, left; direction d is bit d of a set of directions.
_NUM_DIRECTIONS = 4
_STAY = 4
_NUM_CHOICES = 12  # divisible by 1, 2, 3 and 4: a fair choice among so many directions


def draw_mazes(
    num_tasks: int, streams: Streams, side: int, open_share: float, part: Part
) -> dict[str, Tensor]:
    """Draw K mazes with a goal, and a start that is not near it: at least (side - 1) / 2 moves.

    ``walls`` [K, side, side] are as ``draw_layouts`` draws them, ``goal`` [K, 2] is uniform over
    their free cells and ``start`` [K, 2] over those that are far enough; there always is one.
    """
    walls = draw_layouts(num_tasks, streams, side, open_share, part)
    free = walls == 0
    goal = draw_cells(free, streams.uniform("goal", num_tasks, ()))
    far = free & (distances(walls, goal) >= (side - 1) // 2)
    start = draw_cells(far, streams.uniform("start", num_tasks, ()))
    return {"walls": walls, "start": start, "goal": goal}


def draw_layouts(
    num_tasks: int, streams: Streams, side: int, open_share: float, part: Part
) -> Tensor:
    """Draw K mazes [K, side, side] of one part by randomised depth-first search.

    Of a maze and its rotations and mirror images, all equally likely, one is taken that is of the
    part; where none is, another maze is drawn. Both parts have layouts of every side, and a hall
    with all the walls taken out, of which there is one of each side, belongs to both.

    Args:
        num_tasks: K.
        streams: those below "layout" are used; task k depends on its slot alone.
        side: odd, at least 5.
        open_share: share of the walls left between two rooms that is then taken out, from 0 for
            perfect mazes to 1 for a hall with pillars.
        part: whose layouts they are.

    Raises:
        InputError: ``side`` is even or below 5, or ``open_share`` is not from 0 to 1.
    """
    if side < MIN_SIDE or side % 2 == 0:
        raise InputError([f"side of a maze must be odd and at least {MIN_SIDE}, got {side!r}"])
    if not 0.0 <= open_share <= 1.0:
        raise InputError([f"open_share must be a number from 0 to 1, got {open_share!r}"])
    rooms = (side - 1) // 2
    num_walls = (rooms - 1) ** 2
    num_openings = math.floor(open_share * num_walls + 0.5)
    drawn = torch.empty(num_tasks, side, side, device=streams.device)
    pending, attempt = torch.arange(num_tasks, device=streams.device), 0
    while len(pending):
        # Noise for all, so that a task's depends on its slot alone; mazes for those without one.
        own = streams.at("layout", attempt)
        walls = carve(own.uniform("maze", num_tasks, (2 * rooms**2 - 1,))[pending], side)
        if num_openings:
            noise = own.uniform("openings", num_tasks, (2 * rooms * (rooms - 1),))
            walls = take_out(walls, noise[pending], num_openings)
        images = symmetries(walls)
        fits = (in_test_part(images) == (part == "test")) | (num_openings == num_walls)
        found = fits.any(1)
        which = choose(fits[found], own.uniform("image", num_tasks, ())[pending[found]])
        drawn[pending[found]] = images[found, which]
        pending, attempt = pending[~found], attempt + 1
    return drawn


def symmetries(walls: Tensor) -> Tensor:
    """Return layouts [K, side, side] turned and mirrored in all 8 ways, [K, 8, side, side]."""
    both = (walls, walls.mT)
    return torch.stack([one.rot90(turns, (1, 2)) for one in both for turns in range(4)], 1)


def choose(candidates: Tensor, uniform: Tensor) -> Tensor:
    """Return the place [K] int64 of one of the candidates [K, n] bool, all equally likely.

    There is one at least in every row; ``uniform`` [K] is from U[0, 1).
    """
    counts = candidates.cumsum(1)
    rank = (uniform * counts[:, -1]).long()
    return torch.searchsorted(counts, rank[:, None] + 1)[:, 0]


def draw_cells(candidates: Tensor, uniform: Tensor) -> Tensor:
    """Pick one of the cells of each maze that are candidates, all equally likely.

    Args:
        candidates: [K, side, side] bool, at least one per maze.
        uniform: [K], from U[0, 1).

    Returns:
        [K, 2] float32, (row, column).
    """
    place, side = choose(candidates.flatten(1), uniform), candidates.shape[-1]
    return torch.stack((place // side, place % side), -1).float()


def carve(noise: Tensor, side: int) -> Tensor:
    """Carve K perfect mazes [K, side, side] by depth-first search, all in lockstep.

    One step of every search per iteration, forwards or back.

    Args:
        noise: [K, 2 R - 1] from U[0, 1), R the number of rooms: the first room, then each step.
        side: odd, at least 5.
    """
    num_tasks = len(noise)
    rooms, width = (side - 1) // 2, side + 2
    num_rooms = rooms * rooms
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


def take_out(walls: Tensor, noise: Tensor, num_openings: int) -> Tensor:
    """Take so many of the walls between two rooms out of each perfect maze [K, side, side].

    Args:
        walls: the mazes.
        noise: [K, W] from U[0, 1), one number for each of the W cells between two rooms; of those
            that are wall, the ones with the lowest go.
        num_openings: at most as many as there are such walls.
    """
    num_tasks, side = walls.shape[:2]
    row, column = torch.meshgrid(*[torch.arange(1, side - 1)] * 2, indexing="ij")
    place = (row * side + column)[(row + column) % 2 == 1].to(walls.device)
    flat = walls.flatten(1)
    # What is open already comes last; the sort is stable, so that equal noise is no accident.
    order = torch.where(flat[:, place] == 1, noise, 2.0).argsort(dim=1, stable=True)
    flat = flat.scatter(1, place[order[:, :num_openings]], 0.0)
    return flat.reshape(num_tasks, side, side)


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
