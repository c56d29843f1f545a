"""Pictures with paths: where an agent has been shows, and nothing else changes."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metarl import envs
from metarl.envs import ENVS, drawing
from metarl.envs.drawing import PATH, Raster, canvas
from metarl.envs.mujoco_env import MujocoEnv
from metarl.envs.mujoco_renderer import View
from metarl.protocols import CanDraw, CanDrawPaths
from metarl.seeding import Streams
from tests.envs.test_pictures import balls, needs_gl


def started(name: str) -> Any:
    distribution, env = envs.build(name, threads=1)
    assert isinstance(env, CanDrawPaths)
    env.reset(distribution.held_out(1), 1, Streams(0))
    return env


def ways(image: Raster) -> NDArray[np.bool_]:
    is_way: NDArray[np.bool_] = (image == PATH).all(-1)
    return is_way


def test_a_path_goes_through_its_places() -> None:
    image = canvas(5, 7)
    drawing.path(image, [(1.5, 1.5), (5.5, 1.5), (5.5, 3.5)], 1.0)
    rows = ["".join(".#"[bool(x)] for x in row) for row in ways(image)]
    assert rows == [".......", ".#####.", ".....#.", ".....#.", "......."]
    drawing.path(image, [(3.5, 4.5)], 1.0)
    assert ways(image).sum() == 7


def test_a_line_that_leaves_the_raster_is_cut() -> None:
    image = canvas(3, 3)
    drawing.line(image, (-5.0, 1.5), (50.0, 1.5), 1.0, PATH)
    assert ways(image).tolist() == [[False] * 3, [True] * 3, [False] * 3]
    drawing.line(image, (-9.0, -9.0), (-5.0, 20.0), 2.0, PATH)
    assert ways(image).sum() == 3


@pytest.mark.parametrize(
    ("name", "there", "pixel"),
    [
        # The window is [-0.625, 0.625]^2 over 256 pixels; the point is at the origin.
        ("metarl/PointNavigation-v0", (0.3, 0.3), (128 - 31, 128 + 30)),
        # From cell (0, 0), at the bottom left, to (0, 2): between them, cells of 40 pixels.
        ("metarl/GridNavi-v0", (0.0, 2.0), (201 - 60, 20)),
    ],
)
def test_the_way_is_seen_where_it_went(
    name: str, there: tuple[float, float], pixel: tuple[int, int]
) -> None:
    env = started(name)
    bare, image = env.picture(0, 0), env.picture(0, 0, [np.array(there)])
    assert not ways(bare).any()
    assert ways(image)[pixel]
    changed = (bare != image).any(-1)
    assert np.array_equal(changed, ways(image))


def test_the_way_through_a_maze_is_seen() -> None:
    env = started("metarl/GridMaze-v0")
    row, column = env.place(0, 0)
    image = env.picture(0, 0, [np.array([row, column + 2.0])])
    assert ways(image)[int(row * 16 + 8), int(column * 16 + 24)]
    env.step(torch.tensor([[0]]), torch.ones(1, 1, dtype=torch.bool))
    assert abs(env.place(0, 0) - [row, column]).sum() in (0.0, 1.0)


def test_everything_that_can_be_drawn_knows_paths() -> None:
    built = [envs.build(name, threads=1)[1] for name in ENVS]
    drawn = [env for env in built if isinstance(env, CanDraw)]
    assert len(drawn) >= 15
    assert all(isinstance(env, CanDrawPaths) for env in drawn)


def test_the_place_of_a_body_is_its_own() -> None:
    env, tasks = balls()
    env.reset(tasks, 2, Streams(0))
    env.physics.qpos[:, 0] = [0.1, 0.2, 0.3, 0.4]
    assert env.place(1, 0).tolist() == pytest.approx([0.3, 0.0, 0.0])
    with pytest.raises(IndexError, match="no copy"):
        env.place(2, 0)


def line_pixels(env: MujocoEnv, path: list[NDArray[np.float64]]) -> NDArray[np.bool_]:
    change: NDArray[np.bool_] = (env.picture(0, 0, path) != env.picture(0, 0)).any(-1)
    return change


@needs_gl
def test_a_standing_camera_shows_the_way_and_one_that_follows_does_not() -> None:
    path = [np.array([-1.0, 0.0, 0.5]), np.array([-0.5, 0.0, 0.5])]
    env, tasks = balls(view=View(follow=False))
    env.reset(tasks, 1, Streams(0))
    columns = line_pixels(env, path).nonzero()[1]
    assert len(columns) > 20
    assert columns.max() <= 245  # to the left of the middle, where the ball is
    long = [np.array([-1.0 + place / 1e3, 0.0, 0.5]) for place in range(1000)]
    assert line_pixels(env, long).sum() >= len(columns) // 2
    env.close()
    env, tasks = balls(view=View(follow=True))
    env.reset(tasks, 1, Streams(0))
    assert not line_pixels(env, path).any()
    env.close()
