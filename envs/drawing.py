"""Shapes on rasters: what the pictures of environments in the plane are made of.

A raster is [height, width, 3] RGB of bytes, row 0 at the top. A place in it is (x, y) in pixels
from the top left corner, x to the right and y down; the middle of the pixel in row r and column c
is (c + 0.5, r + 0.5). What lies outside of the raster is left out.
"""

import itertools
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Raster: TypeAlias = NDArray[np.uint8]
Colour: TypeAlias = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
LINES: Colour = (200, 204, 210)
WALL: Colour = (70, 76, 86)
GOAL: Colour = (217, 51, 51)
START: Colour = (150, 156, 166)
AGENT: Colour = (31, 111, 235)
PATH: Colour = (140, 180, 245)


def shares(colour: Colour) -> tuple[float, float, float]:
    """Return a colour's parts from 0 to 1."""
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def canvas(height: int, width: int, colour: Colour = PAPER) -> Raster:
    """Return a raster of one colour, [height, width, 3]."""
    image: Raster = np.empty((height, width, 3), dtype=np.uint8)
    image[...] = colour
    return image


def box(
    image: Raster, top: float, left: float, bottom: float, right: float, colour: Colour
) -> None:
    """Fill the rectangle between two rows and two columns of pixel edges, rounded to whole ones."""
    edges = (max(round(edge), 0) for edge in (top, left, bottom, right))
    first_row, first_column, last_row, last_column = edges
    image[first_row:last_row, first_column:last_column] = colour


def disc(image: Raster, centre: tuple[float, float], radius: float, colour: Colour) -> None:
    """Fill the pixels whose middle is at most ``radius`` from ``centre``."""
    ring(image, centre, radius, radius, colour)


def ring(
    image: Raster, centre: tuple[float, float], radius: float, width: float, colour: Colour
) -> None:
    """Fill the pixels whose middle is at most ``radius`` from ``centre`` and at least that less
    ``width``."""
    x, y = centre
    rows = slice(max(math.floor(y - radius), 0), max(math.ceil(y + radius), 0))
    columns = slice(max(math.floor(x - radius), 0), max(math.ceil(x + radius), 0))
    window = image[rows, columns]
    down = np.arange(window.shape[0])[:, None] + rows.start + 0.5 - y
    across = np.arange(window.shape[1])[None, :] + columns.start + 0.5 - x
    distance = np.hypot(down, across)
    window[(distance <= radius) & (distance >= radius - width)] = colour


def line(
    image: Raster,
    start: tuple[float, float],
    end: tuple[float, float],
    width: float,
    colour: Colour,
) -> None:
    """Fill the pixels whose middle is at most half a ``width`` from the line between two places."""
    reach = width / 2
    left, right = sorted((start[0], end[0]))
    upper, lower = sorted((start[1], end[1]))
    rows = slice(max(math.floor(upper - reach), 0), max(math.ceil(lower + reach), 0))
    columns = slice(max(math.floor(left - reach), 0), max(math.ceil(right + reach), 0))
    window = image[rows, columns]
    across = np.arange(window.shape[1])[None, :] + columns.start + 0.5 - start[0]
    down = np.arange(window.shape[0])[:, None] + rows.start + 0.5 - start[1]
    run, fall = end[0] - start[0], end[1] - start[1]
    length = run * run + fall * fall
    share = (across * run + down * fall) / length if length else np.zeros(window.shape[:2])
    share = np.clip(share, 0.0, 1.0)
    distance = np.hypot(across - share * run, down - share * fall)
    window[distance <= reach] = colour


def path(image: Raster, places: Sequence[tuple[float, float]], width: float) -> None:
    """Draw the way that an agent took through some places, in the colour of paths."""
    for start, end in itertools.pairwise(places):
        line(image, start, end, width, PATH)
