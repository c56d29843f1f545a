"""Shapes on rasters, pixel by pixel."""

import numpy as np

from metarl.envs.drawing import Raster, box, canvas, disc, line, ring

RED, INK = (200, 0, 0), (1, 2, 3)


def inked(image: Raster) -> list[str]:
    """One string per row, # where there is ink."""
    return ["".join(".#"[bool((pixel == INK).all())] for pixel in row) for row in image]


def test_a_canvas_has_one_colour() -> None:
    image = canvas(2, 3, RED)
    assert (image.shape, image.dtype) == ((2, 3, 3), np.dtype(np.uint8))
    assert (image == RED).all()


def test_a_box_fills_between_its_edges_and_leaves_out_what_is_outside() -> None:
    image = canvas(4, 5)
    box(image, 1, 2, 3, 4, INK)
    assert inked(image) == [".....", "..##.", "..##.", "....."]
    box(image, -5, -5, 1, 1, INK)
    box(image, 3, 4, 50, 50, INK)
    box(image, -5, -5, -1, -1, INK)
    assert inked(image) == ["#....", "..##.", "..##.", "....#"]


def test_a_disc_fills_pixels_by_their_middles() -> None:
    image = canvas(5, 6)
    disc(image, (2.5, 2.5), 1.5, INK)
    assert inked(image) == ["......", ".###..", ".###..", ".###..", "......"]
    image = canvas(5, 6)
    disc(image, (2.5, 1.5), 1.0, INK)
    assert inked(image) == ["..#...", ".###..", "..#...", "......", "......"]


def test_a_disc_beyond_the_edge_is_cut() -> None:
    image = canvas(3, 3)
    disc(image, (0.0, 3.0), 1.0, INK)
    assert inked(image) == ["...", "...", "#.."]
    for centre in ((-9.0, 1.0), (1.0, -9.0), (50.0, 1.0), (1.0, 50.0)):
        disc(image, centre, 2.0, INK)
    assert inked(image) == ["...", "...", "#.."]


def test_a_ring_is_hollow() -> None:
    image = canvas(5, 5)
    ring(image, (2.5, 2.5), 2.0, 1.0, INK)
    assert inked(image) == ["..#..", ".###.", "##.##", ".###.", "..#.."]


def test_a_line_has_a_width_and_round_ends() -> None:
    image = canvas(4, 6)
    line(image, (1.5, 1.5), (3.5, 1.5), 1.0, INK)
    assert inked(image) == ["......", ".###..", "......", "......"]
    image = canvas(4, 4)
    line(image, (0.5, 0.5), (3.5, 3.5), 1.0, INK)
    assert inked(image) == ["#...", ".#..", "..#.", "...#"]
    image = canvas(3, 3)
    line(image, (1.5, 1.5), (1.5, 1.5), 2.0, INK)
    assert inked(image) == [".#.", "###", ".#."]
