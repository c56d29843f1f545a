"""Mazes written out and drawn, and their distances by a queue."""

import math
from collections import deque

import torch
from torch import Tensor

from metarl.envs.maze_drawing import Part, carve
from metarl.seeding import Streams

STREAMS = Streams(3, ("mazes",))
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
PARTS: tuple[Part, Part] = ("train", "test")
Room = tuple[int, int]


def layout(text: str) -> Tensor:
    return torch.tensor([[float(letter == "#") for letter in row] for row in text.split()])


ROOM = layout("#####  #...#  #.#.#  #...#  #####")
APART = layout("#######  #.#...#  #.#.#.#  #.#...#  #.#####  #.....#  #######")


def carved(number: int, side: int) -> Tensor:
    """Perfect mazes of both parts."""
    return carve(STREAMS.uniform("maze", number, (2 * ((side - 1) // 2) ** 2 - 1,)), side)


def rows_of(walls: Tensor) -> set[bytes]:
    """Layouts as things that can be in a set."""
    return {one.tobytes() for one in walls.to(torch.uint8).numpy()}


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
