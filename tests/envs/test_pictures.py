"""Pictures of MuJoCo copies: they show the state, the copy's own model, and what the task hides."""

import os
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metarl import envs
from metarl.envs import ENVS
from metarl.envs.mujoco_env import Body, MujocoEnv, Noise
from metarl.envs.mujoco_renderer import HEIGHT, WIDTH, Marker, View
from metarl.envs.physics import BatchPhysics
from metarl.envs.sb3 import TaskVecEnv
from metarl.protocols import CanDraw
from metarl.seeding import Streams
from metarl.types import EnvSpec, Tasks

CHEETAH, VEL = "metarl/HalfCheetahDir-v0", "metarl/HalfCheetahVel-v0"
BALL = """<mujoco><worldbody><light pos="0 0 3"/><body name="ball">
<joint name="x" type="slide" axis="1 0 0"/><geom type="sphere" size="0.2" rgba="0 1 0 1"/>
</body></worldbody><actuator><motor joint="x" ctrllimited="true" ctrlrange="-1 1"/></actuator>
</mujoco>"""


def gl_works() -> str:
    """Why nothing can be drawn here; nothing where it can."""
    distribution, env = envs.build(CHEETAH, threads=1)
    assert isinstance(env, MujocoEnv)
    env.reset(distribution.held_out(1), 1, Streams(0))
    try:
        env.picture(0, 0)
    except RuntimeError as error:
        return str(error)
    finally:
        env.close()
    return ""


NO_GL = gl_works()
needs_gl = pytest.mark.skipif(bool(NO_GL), reason=NO_GL)
DRAWN = [name for name in ENVS if isinstance(envs.build(name, threads=1)[1], CanDraw)]


def grow(physics: BatchPhysics, parameter: Any) -> None:
    physics.expand("geom_size")[:, 0, 0] = parameter["radius"]


def goal(place: NDArray[np.float64], parameter: Any) -> list[Marker]:
    at = place + np.array([float(parameter["goal"]), 0.0, 0.0])
    return [Marker(at, size=0.1, colour=(1.0, 0.0, 0.0, 1.0))]


def balls(**more: Any) -> tuple[MujocoEnv, Tasks]:
    body = Body(
        xml=BALL,
        substeps=1,
        noise=Noise(position=0.0, velocity=0.0),
        observe=lambda physics: [physics.qpos],
        measure=lambda physics: physics.qpos[:, 0].copy(),
        reward=lambda moved: moved.velocity,
        **more,
    )
    env = MujocoEnv(EnvSpec("balls", 1, 1, False, 5, False), body, ("radius", "goal"), "cpu", 1)
    parameter = {"radius": torch.tensor([0.2, 0.4]), "goal": torch.tensor([-0.5, 0.6])}
    return env, Tasks(torch.tensor([-1, -1]), parameter)


def coloured(picture: NDArray[np.uint8], channel: int) -> tuple[NDArray[np.int64], ...]:
    """Rows and columns of what is mostly red (0), green (1) or blue (2)."""
    others = np.delete(picture, channel, axis=2).max(-1)
    there: tuple[NDArray[np.int64], ...] = (picture[..., channel] > 2.0 * others + 20).nonzero()
    return there


def drawn(env: gymnasium.Env[Any, Any]) -> NDArray[np.uint8]:
    picture = env.render()
    assert isinstance(picture, np.ndarray)
    assert picture.dtype == np.uint8
    return picture


@needs_gl
def test_the_picture_shows_the_state_and_is_the_same_for_the_same() -> None:
    env = gymnasium.make(CHEETAH, render_mode="rgb_array").unwrapped
    env.reset(seed=1)
    first, again = drawn(env), drawn(env)
    assert first.shape == (HEIGHT, WIDTH, 3)
    assert first.std() > 10
    assert np.array_equal(first, again)
    for _ in range(5):
        env.step(env.action_space.sample())
    assert not np.array_equal(drawn(env), first)
    env.reset(seed=1)
    assert np.array_equal(drawn(env), first)
    env.close()
    env.close()
    assert np.array_equal(drawn(env), first)
    assert env.metadata["render_fps"] == 20


@needs_gl
def test_each_copy_is_drawn_with_its_own_body() -> None:
    env, tasks = balls(vary=grow)
    env.reset(tasks, 2, Streams(0))
    pixels = [len(coloured(env.picture(task, 1), 1)[0]) for task in range(2)]
    assert pixels[1] == pytest.approx(4 * pixels[0], rel=0.15)
    env.close()


@needs_gl
def test_the_goal_is_marked_where_it_is() -> None:
    env, tasks = balls(markers=goal)
    env.reset(tasks, 1, Streams(0))
    for task, side in ((0, -1), (1, 1)):
        picture = env.picture(task, 0)
        (_, ball), (_, mark) = coloured(picture, 1), coloured(picture, 0)
        assert np.sign(mark.mean() - ball.mean()) == side
        scale = 0.4 / (ball.max() - ball.min() + 1)  # m for a pixel
        assert (mark.mean() - ball.mean()) * scale == pytest.approx(
            float(tasks.parameter["goal"][task]), abs=0.05
        )
    env.close()


@needs_gl
def test_the_camera_follows_or_stands_still() -> None:
    for follow in (True, False):
        env, tasks = balls(view=View(follow=follow))
        env.reset(tasks, 1, Streams(0))
        places = []
        for x in (0.0, 0.5):
            env.physics.qpos[:] = x
            places.append(coloured(env.picture(0, 0), 1)[1].mean())
        assert (abs(places[1] - places[0]) < 2) == follow
        assert places[0] == pytest.approx(WIDTH / 2, abs=3)
        env.close()


@needs_gl
def test_drawing_changes_nothing() -> None:
    _, env = envs.build(CHEETAH, threads=1)
    distribution, other = envs.build(CHEETAH, threads=1)
    assert isinstance(env, MujocoEnv)
    tasks = distribution.held_out(2)
    action, running = 5.0 * torch.ones(2, 1, 6), torch.ones(2, 1, dtype=torch.bool)
    env.reset(tasks, 1, Streams(1))
    other.reset(tasks, 1, Streams(1))
    for _ in range(4):
        one, two = env.step(action, running), other.step(action, running)
        env.picture(1, 0)
        assert torch.equal(one.obs, two.obs)
        assert torch.equal(one.reward, two.reward)
    env.close()


@needs_gl
@pytest.mark.parametrize("name", DRAWN)
def test_everything_that_can_be_drawn_is_drawn_by_every_face(name: str) -> None:
    env = gymnasium.make(name, render_mode="rgb_array")
    env.reset(seed=1)
    picture = drawn(env)
    assert (picture.shape[2], picture.ndim) == (3, 3)
    assert picture.std() > 3
    env.close()
    copies = gymnasium.make_vec(name, num_envs=2, render_mode="rgb_array")
    copies.reset(seed=1)
    pictures = copies.render()
    assert pictures is not None
    assert [np.shape(each) for each in pictures] == [picture.shape] * 2
    copies.close()
    venv = TaskVecEnv(name, 2, render_mode="rgb_array")
    venv.reset()
    assert len(venv.get_images()) == 2
    assert venv.render() is not None
    venv.close()


@pytest.mark.parametrize("name", sorted(set(ENVS) - set(DRAWN)))
def test_what_cannot_be_drawn_says_so(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be drawn"):
        gymnasium.make(name, render_mode="rgb_array")
    assert gymnasium.make(name).unwrapped.metadata["render_modes"] == []


def test_render_before_reset_is_refused_and_without_a_mode_nothing() -> None:
    env = gymnasium.make(CHEETAH, render_mode="rgb_array").unwrapped
    with pytest.raises(RuntimeError, match="reset comes before render"):
        env.render()
    ball, tasks = balls()
    with pytest.raises(RuntimeError, match="reset comes before picture"):
        ball.picture(0, 0)
    ball.reset(tasks, 1, Streams(0))
    with pytest.raises(IndexError, match="no copy"):
        ball.picture(0, 1)
    assert gymnasium.make(CHEETAH).unwrapped.render() is None


def test_without_opengl_the_error_says_what_to_install() -> None:
    code = """
from metarl import envs
from metarl.seeding import Streams
distribution, env = envs.build("metarl/HalfCheetahDir-v0", threads=1)
env.reset(distribution.held_out(1), 1, Streams(0))
try:
    env.picture(0, 0)
except RuntimeError as error:
    print(error)
"""
    environment = os.environ | {"MUJOCO_GL": "disable"}
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    ).stdout
    assert "apt-get install libegl1" in said
    assert "MUJOCO_GL" in said


@needs_gl
@pytest.mark.parametrize("name", DRAWN)
def test_what_a_task_hides_is_red_and_large_enough_to_see(name: str) -> None:
    distribution, env = envs.build(name, threads=1)
    assert isinstance(env, CanDraw)
    tasks = distribution.held_out(1)
    env.reset(tasks, 1, Streams(0))
    red = len(coloured(env.picture(0, 0), 0)[0])
    if {"goal", "heading", "direction", "velocity"} & set(tasks.parameter):
        assert red >= 50
    else:
        assert red == 0
    if isinstance(env, MujocoEnv):
        env.close()
