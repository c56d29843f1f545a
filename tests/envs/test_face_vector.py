"""The face of several copies: Gymnasium's vector environments."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from metarl import envs
from metarl.envs.gymnasium_vector import TaskVectorEnv
from metarl.envs.task_dicts import from_dicts
from metarl.seeding import Streams
from tests.envs.faces import (
    CHEETAH,
    GOAL,
    MDP,
    ROCKET,
    VEL,
    N,
    actions,
    every_env,
    inmost,
    own_action,
    vector,
)

pytestmark = pytest.mark.filterwarnings("error")

GRID = "metarl/GridNavi-v0"
FINITE = {GOAL: "pearl-2019"}  # where tasks have a place in a list


@every_env
def test_the_vector_face_does_what_the_batch_does(name: str) -> None:
    face = vector(name, split="test")
    distribution, env = envs.build(name, threads=1)
    obs, infos = face.reset(seed=7)
    tasks = from_dicts(name, distribution.parameters, face.tasks)
    assert infos["task_id"].tolist() == tasks.task_id.tolist()
    start = env.reset(tasks, 1, Streams(7).at("face", "start", 0))
    assert np.array_equal(obs, start[:, 0].numpy())
    for action in actions(face, min(12, env.spec.horizon - 1)):
        step = env.step(own_action(env, action)[:, None], torch.ones(N, 1, dtype=torch.bool))
        obs, reward, terminated, truncated, _ = face.step(action)
        if terminated.any():
            break
        assert np.array_equal(obs, step.obs[:, 0].numpy())
        assert np.array_equal(reward, step.reward[:, 0].double().numpy())
        assert not truncated.any()


def to_goal(goal: list[float]) -> list[np.ndarray[Any, Any]]:
    """Shares of the largest step that lead from the origin to a goal and not beyond."""
    offset, moves = np.array(goal), []
    while np.abs(offset).max() > 1e-3:
        moves.append(np.clip(offset, -0.1, 0.1))
        offset = offset - moves[-1]
    return [move.astype(np.float32) * 10.0 for move in moves]


def test_who_ends_starts_again_in_the_same_step() -> None:
    copies, goals = vector(GOAL), [[0.3, 0.0], [0.05, 0.05], [-0.5, 0.5]]
    copies.reset(seed=1, options={"tasks": [{"goal": goal} for goal in goals]})
    plans = [to_goal(goal) for goal in goals]
    for time in range(6):
        action = np.stack([plan[time % len(plan)] for plan in plans])
        obs, reward, terminated, truncated, infos = copies.step(action)
        ended = [(time + 1) % len(plan) == 0 for plan in plans]
        assert terminated.tolist() == ended
        assert not truncated.any()
        assert (obs[ended] == 0.0).all()
        assert (obs[~np.array(ended)] != 0.0).any(1).all()
        for copy in np.flatnonzero(ended):
            assert infos["final_obs"][copy] == pytest.approx(goals[copy], abs=0.01)
            assert reward[copy] == pytest.approx(0.0, abs=0.01)
        assert infos["_task"].tolist() == ended
        assert infos["_task_id"].all()


def test_who_ends_starts_again_in_the_next_step() -> None:
    copies = vector(GOAL, autoreset_mode=AutoresetMode.NEXT_STEP)
    goals = [[0.3, 0.0], [0.05, 0.05], [0.1, 0.0]]
    copies.reset(seed=1, options={"tasks": [{"goal": goal} for goal in goals]})
    right = np.tile(np.array([1.0, 0.0], np.float32), (N, 1))
    right[1] = [0.5, 0.5]
    ends: list[list[bool]] = []
    places: list[list[float]] = []
    for _ in range(4):
        obs, reward, terminated, truncated, infos = copies.step(right)
        assert not truncated.any()
        assert "final_obs" not in infos
        if ends:
            assert (reward[ends[-1]] == 0.0).all()
            assert infos.get("_task", np.zeros(N, bool)).tolist() == ends[-1]
        ends.append(terminated.tolist())
        places.append(obs[:, 0].tolist())
    assert ends == [
        [False, True, True],
        [False, False, False],
        [True, True, True],
        [False, False, False],
    ]
    expected = [[0.1, 0.05, 0.1], [0.2, 0.0, 0.0], [0.3, 0.05, 0.1], [0.0, 0.0, 0.0]]
    assert np.array(places) == pytest.approx(np.array(expected), abs=1e-3)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_the_vector_face_tells_what_gymnasiums_own_tells(mode: AutoresetMode) -> None:
    ours = vector(GOAL, autoreset_mode=mode, config={"horizon": 4})
    theirs = SyncVectorEnv(
        [lambda: gymnasium.make(GOAL, config={"horizon": 4}).unwrapped] * N, autoreset_mode=mode
    )
    tasks = [{"goal": [0.2, 0.0]}, {"goal": [0.5, 0.5]}, {"goal": [0.05, 0.0]}]
    ours.reset(seed=1, options={"tasks": tasks})
    theirs.call("reset")
    for env, task in zip(theirs.envs, tasks, strict=True):
        inmost(env).set_task(task)
    theirs.reset(seed=1)
    action = np.tile(np.array([1.0, 0.0], np.float32), (N, 1))
    action[2, 0] = 0.5
    for _ in range(10):
        one, other = ours.step(action), theirs.step(action)
        results: list[tuple[Any, Any]] = list(zip(one[:4], other[:4], strict=True))
        for a, b in results:
            assert np.array_equal(a, b)
        assert_same_infos(one[4], other[4])


def assert_same_infos(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        if key.startswith("_"):
            assert np.array_equal(value, other[key]), key
        elif isinstance(value, dict):
            assert_same_infos(value, other[key])
        else:
            for a, b, said in zip(value, other[key], one[f"_{key}"], strict=True):
                assert not said or np.array_equal(a, b), key


@pytest.mark.parametrize("name", [CHEETAH, MDP])
def test_who_never_terminates_is_truncated_at_the_horizon(name: str) -> None:
    copies = vector(name, config={"horizon": 3})
    copies.reset(seed=2)
    for time, action in enumerate(actions(copies, 9), 1):
        obs, _, terminated, truncated, infos = copies.step(action)
        assert not terminated.any()
        assert truncated.tolist() == [time % 3 == 0] * N
        assert ("final_obs" in infos) == (time % 3 == 0)
        if time % 3 == 0 and name == CHEETAH:
            assert not np.array_equal(obs, np.stack(infos["final_obs"]))


def test_every_start_has_noise_of_its_own() -> None:
    copies = vector(CHEETAH, config={"horizon": 1})
    starts = [copies.reset(seed=2)[0]]
    starts += [copies.step(action)[0] for action in actions(copies, 3)]
    assert len(np.unique(np.concatenate(starts), axis=0)) == 4 * N


def test_who_fails_while_another_starts_again_is_shown_where_it_was() -> None:
    copies = TaskVectorEnv(ROCKET, N, autoreset_mode=AutoresetMode.NEXT_STEP)
    copies.reset(seed=1)
    before = copies.step(np.array([[0.0], [1.0], [0.0]]))[0]
    obs, _, _, truncated, infos = copies.step(np.array([[0.0], [0.0], [1.0]]))
    assert truncated.tolist() == infos["faulty"].tolist() == [False, False, True]
    assert np.array_equal(obs[2], before[2])
    assert not np.array_equal(obs[1], before[1])


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_what_is_given_out_is_the_callers(mode: AutoresetMode) -> None:
    for name in (GOAL, CHEETAH, GRID):
        env = vector(name, autoreset_mode=mode, preset=FINITE.get(name), config={"horizon": 2})

        def run(env: TaskVectorEnv, spoil: bool) -> list[Any]:
            told: list[Any] = [env.reset(seed=0)]
            kept = [deepcopy(told[-1])]
            for action in actions(env, 6):
                if spoil:
                    overwrite(told)
                told.append(env.step(action))
                pairs = itertools.combinations(arrays(told[-1]), 2)
                assert not any(np.shares_memory(one, other) for one, other in pairs)
                kept.append(deepcopy(told[-1]))
            return kept

        assert_same(run(env, spoil=True), run(env, spoil=False))


def overwrite(told: Any) -> None:
    """Change every array there is."""
    for array in arrays(told):
        array[...] = ~array if array.dtype == np.bool_ else array + 7


def arrays(told: Any) -> Iterator[np.ndarray[Any, Any]]:
    if isinstance(told, np.ndarray) and told.dtype == object:
        told = told.tolist()
    if isinstance(told, np.ndarray):
        yield told
    elif isinstance(told, dict | list | tuple):
        for entry in told.values() if isinstance(told, dict) else told:
            yield from arrays(entry)


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, np.ndarray) and one.dtype == object:
        one, other = one.tolist(), other.tolist()
    if isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert np.array_equal(one, other)


def test_gymnasiums_wrappers_take_the_vector_face() -> None:
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(vector(MDP))
    env.reset(seed=0)
    total = np.zeros(N)
    for action in actions(env, 10):
        _, reward, _, _, infos = env.step(action)
        total += reward
    assert infos["episode"]["r"] == pytest.approx(total)
    assert infos["episode"]["l"].tolist() == [10] * N


def test_faces_may_be_spawned() -> None:
    code = f"""
import gymnasium, numpy as np
import metarl.envs
if __name__ == "__main__":
    env = gymnasium.make_vec(
        {VEL!r}, num_envs=2, vectorization_mode="async", vector_kwargs={{"context": "spawn"}},
        split="test",
    )
    _, infos = env.reset(seed=1, options={{"task": {{"velocity": 1.5}}}})
    assert infos["task"]["velocity"].tolist() == [1.5, 1.5], infos
    obs = env.step(env.action_space.sample())[0]
    assert obs.shape == (2, 17) and np.isfinite(obs).all()
    env.close()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)


def test_actions_may_be_of_any_kind_and_stay_as_they_are() -> None:
    env = vector(CHEETAH)
    read_only = np.broadcast_to(np.full(6, 0.5), (N, 6))
    env.reset(seed=1)
    expected = env.step(np.full((N, 6), 0.5, dtype=np.float32))[0]
    env.reset(seed=1)
    assert np.array_equal(env.step(read_only)[0], expected)
    assert (read_only == 0.5).all()
    env.reset(seed=1)
    assert np.array_equal(env.step(read_only.tolist())[0], expected)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_starting_again_pays_for_the_old_task(mode: AutoresetMode) -> None:
    env = vector(GOAL, config={"horizon": 2}, autoreset_mode=mode)
    env.reset(seed=1, options={"task": {"goal": [0.3, 0.4]}})
    env.set_tasks([{"goal": [0.2, 0.0]}])
    rewards = [env.step(np.zeros((N, 2), dtype=np.float32))[1].tolist() for _ in range(7)]
    assert {round(reward, 5) for row in rewards for reward in row} <= {-0.5, 0.0}
    env.reset()
    reward = env.step(np.zeros((N, 2), dtype=np.float32))[1]
    assert reward == pytest.approx(np.full(N, -0.2))
