"""Mazes in space: aligned with gymnasium-robotics', rewards by hand, each copy in its own walls."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.envs.maze_tasks import LARGE, MEDIUM, UMAZE
from metarl.envs.mujoco_env import MujocoEnv
from metarl.types import Tasks
from tests.envs.bodies import step_all
from tests.envs.maze_bodies import ANT, CELL, POINT, STREAMS, both, build, tasks

PEERS = {POINT: "PointMaze_UMaze-v3", ANT: "AntMaze_UMaze-v5"}
HALL = "11111/1s001/10001/10001/11111"


def put(env: MujocoEnv, copy: int, x: float, y: float, speed: tuple[float, float] = (0, 0)) -> None:
    env.physics.qpos[copy, :2] = x, y
    env.physics.qvel[copy, :2] = speed


def walls_of(text: str) -> list[list[int]]:
    return [[int(mark == "1") for mark in row] for row in text.split("/")]


def peer(
    name: str, walls: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> Any:
    """The environment of gymnasium-robotics in a given maze; it writes files where it is."""
    gymnasium = pytest.importorskip("gymnasium")
    robotics = pytest.importorskip("gymnasium_robotics")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    gymnasium.register_envs(robotics)
    other = gymnasium.make(PEERS[name], maze_map=walls, **options).unwrapped
    other.reset(seed=0)
    return other


def body_of(other: Any) -> Any:
    return other.point_env if hasattr(other, "point_env") else other.ant_env


def start_like(env: MujocoEnv, other: Any) -> None:
    body_of(other).set_state(env.physics.qpos[0].copy(), env.physics.qvel[0].copy())


def assert_same_state(env: MujocoEnv, other: Any) -> None:
    np.testing.assert_allclose(env.physics.qpos[0], other.data.qpos, rtol=0, atol=1e-10)
    np.testing.assert_allclose(env.physics.qvel[0], other.data.qvel, rtol=0, atol=1e-10)


def touches_wall(other: Any) -> bool:
    boxes = [geom for geom in range(other.model.ngeom) if other.model.geom(geom).type[0] == 6]
    return any(contact.geom1 in boxes or contact.geom2 in boxes for contact in other.data.contact)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", [UMAZE, MEDIUM, LARGE, None])
def test_a_ball_rolls_like_gymnasium_robotics(
    layout: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long pushes in changing directions; a generated maze has sunk walls, theirs has none."""
    distribution, env = build(POINT, layout=layout or "")
    drawn = distribution.held_out(1)
    walls = walls_of(layout) if layout else drawn.parameter["walls"][0].int().tolist()
    other = peer(POINT, walls, tmp_path, monkeypatch)
    env.reset(drawn, 1, STREAMS)
    start_like(env, other)
    bumps = fast = 0
    for time in range(300):
        action = 1.2 * torch.tensor([[[np.cos(2.1 * (time // 50)), np.sin(2.1 * (time // 50))]]])
        step_all(env, action.float())
        other.step(action[0, 0].float().double().numpy())
        assert_same_state(env, other)
        bumps += touches_wall(other)
        fast += np.abs(other.data.qvel).max() > 5.0
    assert bumps > 20
    assert fast > 10


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("size", "follow"), [(1.0, False), (0.1, True)])
@pytest.mark.parametrize("layout", [UMAZE, None])
def test_an_ant_walks_like_gymnasium_robotics(
    layout: str | None, size: float, follow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large torques: step by step from equal states, for its chaos. Small ones: 100 on end."""
    distribution, env = build(ANT, layout=layout or "")
    drawn = distribution.held_out(1)
    walls = walls_of(layout) if layout else drawn.parameter["walls"][0].int().tolist()
    other = peer(ANT, walls, tmp_path, monkeypatch)
    env.reset(drawn, 1, STREAMS)
    speed = env.physics.qvel.copy()
    speed[:, :2] = 5.0, 6.0
    env.physics.reset(env.physics.qpos.copy(), speed)
    start_like(env, other)
    bumps = 0
    for time in range(100):
        action = size * (2 * STREAMS.uniform(f"action {time}", 1, (1, 8)) - 1)
        step_all(env, action)
        other.step(action[0, 0].double().numpy())
        assert_same_state(env, other)
        bumps += touches_wall(other)
        if not follow:
            start_like(env, other)
    assert bumps > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sparse", [False, True])
@both
def test_pays_and_observes_like_gymnasium_robotics(
    name: str, sparse: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "sparse" if sparse else "dense"
    other = peer(name, walls_of(UMAZE), tmp_path, monkeypatch, reward_type=kind)
    distribution, env = build(name, layout=UMAZE, sparse=sparse)
    drawn = distribution.held_out(1)
    env.reset(drawn, 1, STREAMS)
    row, column = drawn.parameter["goal"][0].double().tolist()
    other.goal = other.maze.cell_rowcol_to_xy(np.array([row, column]))
    paid = set()
    for near in np.linspace(0.2, 0.8, 13):
        put(env, 0, *(other.goal + np.array([near * 0.6, near * 0.8])))
        start_like(env, other)
        action = STREAMS.normal(f"{near}", 1, (1, env.spec.action_size))
        step = step_all(env, action)
        obs, reward, terminated, _, info = other.step(action[0, 0].clamp(-1, 1).double().numpy())
        assert step.reward.item() == pytest.approx(reward, rel=1e-6)
        assert step.success is not None
        assert step.success.item() == info["success"]
        assert not terminated
        assert not step.terminated.any()
        seen = np.concatenate((obs["achieved_goal"], obs["observation"]))
        seen = obs["observation"] if name == POINT else seen[: env.spec.observation_size]
        np.testing.assert_allclose(step.obs[0, 0], seen, rtol=1e-6, atol=1e-6)
        paid.add(reward)
    assert len(paid) == (2 if sparse else 13)


@both
def test_rewards_and_success_by_hand(name: str) -> None:
    """In a hall of 5 x 5 cells, the cell (2, 2) is the origin; (1, 3) is up and to the right."""
    cell = CELL[name]
    goal = tasks(goal=[[2.0, 2.0], [1.0, 3.25]])
    for sparse in (False, True):
        _, env = build(name, layout=HALL, sparse=sparse)
        env.reset(goal, 2, STREAMS)
        for copy, (x, y) in enumerate([(0.3, 0.4), (0.24, 0.32), (cell, cell), (1.0, -1.0)]):
            put(env, copy, x, y)
        step = step_all(env, torch.zeros(2, 2, env.spec.action_size))
        away = [np.hypot(*env.physics.qpos[copy, :2]) for copy in (0, 1)]
        away += [np.hypot(*(env.physics.qpos[copy, :2] - [1.25 * cell, cell])) for copy in (2, 3)]
        np.testing.assert_allclose(away[:3], [0.5, 0.4, 0.25 * cell], atol=0.05 * cell)
        near = np.array(away) <= 0.45
        assert near.tolist() == [False, True, name == POINT, False]
        expected = near if sparse else np.exp(-np.array(away))
        np.testing.assert_allclose(step.reward.flatten(), expected, rtol=1e-6)
        assert step.success is not None
        assert step.success.flatten().tolist() == near.tolist()
        assert not step.terminated.any()


def test_walls_stop_the_ball_and_free_cells_do_not() -> None:
    """From (1, 1), through the corridor at the top: its walls' faces are at x = 1.5 and y = 1.5."""
    walls = torch.tensor([walls_of(UMAZE)] * 2).float()
    walls[1, 2, 1] = 0
    _, env = build(POINT, side=5)
    env.reset(tasks(walls=walls, start=[[1, 1]] * 2, goal=[[3, 1]] * 2), 1, STREAMS)
    for direction, stop in (((1, 0), (1.4, None)), ((0, 1), (1.4, 1.4)), ((-1, 0), (-1.4, 1.4))):
        for _ in range(150):
            step_all(env, torch.tensor(direction).float().expand(2, 1, 2))
        for axis, place in enumerate(stop):
            if place is not None:
                np.testing.assert_allclose(env.physics.qpos[:, axis], place, atol=0.05)
    for _ in range(150):
        step_all(env, torch.tensor([0.0, -1.0]).expand(2, 1, 2))
    np.testing.assert_allclose(env.physics.qpos[:, 1], [0.6, -1.4], atol=0.05)


@both
def test_each_copy_is_in_its_own_maze(name: str) -> None:
    """As alone, as in a batch of one maze, and as in a model compiled for it, bit for bit."""
    distribution, env = build(name, side=5, open_share=0.0)
    drawn = distribution.sample(4, STREAMS)
    drawn.parameter["start"][:], drawn.parameter["goal"][:] = 1.0, 3.0
    num_steps = 100 if name == POINT else 40

    def run(env: MujocoEnv, some: Tasks, first: int) -> Tensor:
        number = len(some.task_id)
        streams = STREAMS.from_task(first)
        seen = [env.reset(some, 2, streams).clone()]
        push = env.physics.qvel.copy()
        push[:, :2] = [4.0, -4.0]
        env.physics.reset(env.physics.qpos.copy(), push)
        for time in range(num_steps):
            action = 2.0 * streams.normal(f"{time // 20}", number, (2, env.spec.action_size))
            seen.append(step_all(env, action).obs)
        return torch.stack(seen, 2)

    whole = run(env, drawn, 0)
    alone = torch.cat([run(env, drawn.take(slice(k, k + 1)), k) for k in range(4)])
    assert torch.equal(whole, alone)
    places = set()
    for k, walls in enumerate(drawn.parameter["walls"].int().tolist()):
        marks = [["01"[mark] for mark in row] for row in walls]
        marks[1][1] = "s"
        _, compiled = build(name, layout="/".join("".join(row) for row in marks))
        one = run(compiled, tasks(goal=[[3.0, 3.0]]), k)
        assert torch.equal(one[0], whole[k])
        # The same start and push in every maze.
        there = tasks(walls=[walls], start=[[1, 1]], goal=[[3, 3]])
        places.add(tuple(run(env, there, 0).flatten().tolist()))
    assert 1 < len(places) <= len(torch.unique(drawn.parameter["walls"], dim=0))


def test_walls_come_back_up() -> None:
    """A batch that has had one maze is in no way different for another one."""
    distribution, env = build(POINT, side=5)
    first, second = (distribution.sample(4, STREAMS.at(number)) for number in (1, 2))
    action = torch.ones(4, 2, 2)

    def run(env: MujocoEnv, some: Tasks) -> Tensor:
        env.reset(some, 2, STREAMS)
        return torch.stack([step_all(env, action).obs for _ in range(100)])

    expected = run(build(POINT, side=5)[1], second)
    run(env, first)
    assert torch.equal(run(env, second), expected)


def test_speed_is_clipped_before_a_step_of_the_running() -> None:
    distribution, env = build(POINT, layout=HALL)
    env.reset(distribution.held_out(1), 3, STREAMS)
    for copy in range(3):
        put(env, copy, 0.0, 0.0, (9.0, -9.0))
    env.step(torch.zeros(1, 3, 2), torch.tensor([[True, False, True]]))
    assert env.physics.qvel[1].tolist() == [9.0, -9.0]
    for copy in (0, 2):
        # Damping of 1 N s/m on 4.19 kg takes 0.24 % in 0.01 s.
        np.testing.assert_allclose(env.physics.qvel[copy], [4.988, -4.988], atol=1e-3)
