"""What users hand to the faces: numbers of every library are taken, mistakes refused by name."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import yaml

from metarl import envs
from metarl.checks import InputError
from metarl.envs.face import Face
from metarl.envs.gymnasium_single import TaskEnv
from metarl.envs.gymnasium_vector import TaskVectorEnv
from metarl.envs.half_cheetah import HalfCheetahDirConfig, HalfCheetahVelConfig
from metarl.envs.sb3 import TaskVecEnv

N = 3
VEL, GOAL, MDP = "metarl/HalfCheetahVel-v0", "metarl/PointNavigation-v0", "metarl/TabularMDP-v0"


def test_what_the_faces_give_out_they_take() -> None:
    copies = TaskVectorEnv(VEL, np.int64(N), preset="pearl-2019")  # type: ignore[arg-type]
    _, infos = copies.reset(seed=np.int64(4))  # type: ignore[arg-type]
    assert len(copies.sample_tasks(np.int64(2))) == 2  # type: ignore[arg-type]
    task = {"velocity": infos["task"]["velocity"][1], "task_id": infos["task_id"][1]}
    env = TaskEnv(VEL, preset="pearl-2019")
    _, info = env.reset(seed=np.int32(4), options={"task": task})  # type: ignore[arg-type]
    assert info["task_id"] == infos["task_id"][1]
    assert TaskVecEnv(VEL, np.int64(N)).get_attr("task_id", np.int64(1)) == [-1]  # type: ignore[arg-type]


def test_numbers_in_configs_stay_pythons_own() -> None:
    face = Face(name=VEL, config={"horizon": np.int64(7)})
    _, env = face.build()
    assert type(env.spec.horizon) is int
    assert yaml.safe_dump({"horizon": env.spec.horizon}) == "horizon: 7\n"
    with pytest.raises(InputError, match=r"HalfCheetahVelConfig.horizon must be"):
        HalfCheetahVelConfig(horizon=np.int64(7))  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [True, np.True_, np.float64(2.0), float("nan"), 0, "2", None])
def test_counts_that_are_none_are_refused_under_the_name_that_was_typed(number: Any) -> None:
    for face in (TaskVectorEnv, TaskVecEnv):
        with pytest.raises(InputError, match=r"^num_envs must be a whole number from 1") as caught:
            face(VEL, number)
        assert "Face" not in str(caught.value)
        if number is not None:
            with pytest.raises(InputError, match=r"^threads must be a whole number from 1"):
                face(VEL, 1, threads=number)
    with pytest.raises(InputError, match=r"^num_tasks must be a whole number from 1"):
        TaskEnv(VEL).sample_tasks(number)


def test_a_list_of_seeds_serves_as_one() -> None:
    copies = TaskVectorEnv(VEL, N)
    seeds = [1, 2, np.int64(3)]
    given: tuple[Any, ...] = (seeds, [1, 2, 4], np.array([1, 2, 3]))
    starts = [copies.reset(seed=again)[0] for again in given]
    assert np.array_equal(starts[0], starts[2])
    assert not np.array_equal(starts[0], starts[1])
    assert np.array_equal(copies.reset(seed=copies.np_random_seed)[0], starts[0])
    for wrong in ([1, 2], [1, 2, None], []):
        with pytest.raises(InputError, match=r"one seed, or 3 of them are needed, got \["):
            copies.reset(seed=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True])
def test_seeds_that_are_none_are_refused(seed: Any) -> None:
    for reset in (TaskEnv(VEL).reset, TaskVectorEnv(VEL, N).reset):
        with pytest.raises(InputError, match="seed must be a whole number >= 0, got"):
            reset(seed=seed)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("name", [GOAL, VEL])
def test_actions_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    env = TaskEnv(name)
    assert env.action_space.shape is not None
    for copies in (TaskVectorEnv(name, N), TaskVecEnv(name, N)):
        copies.reset()
        action = np.zeros((N, *env.action_space.shape))
        action[1, 0] = bad
        with pytest.raises(InputError, match=rf"^{name}: actions are finite .* for copy 1$"):
            copies.step(action)
        action[1, 0] = 0.0
        obs = copies.step(action)[0]
        assert isinstance(obs, np.ndarray)
        assert np.isfinite(obs).all()
    env.reset()
    with pytest.raises(InputError, match=rf"^{name}: actions are finite numbers, got \[[^\]]*\]$"):
        env.step(action[0] + bad)


def test_what_is_told_to_a_copy_that_starts_again_is_not_looked_at() -> None:
    copies = TaskVectorEnv(GOAL, N, autoreset_mode="NextStep")
    copies.reset(seed=1, options={"tasks": [{"goal": [0.1 * copy, 0.0]} for copy in (4, 1, 4)]})
    right = np.tile([1.0, 0.0], (N, 1))
    assert copies.step(right)[2].tolist() == [False, True, False]
    right[1] = np.nan
    assert copies.step(right)[0][1].tolist() == [0.0, 0.0]
    with pytest.raises(InputError, match="for copy 1"):
        copies.step(right)


def test_single_actions_are_spoken_of_as_single() -> None:
    env, table = TaskEnv(VEL), TaskEnv(MDP)
    env.reset()
    table.reset()
    for wrong in (np.zeros(5), np.zeros((1, 6)), None):
        shape = r"\(6,\)"
        with pytest.raises(InputError, match=rf"an action must be {shape}, got \("):
            env.step(wrong)
    with pytest.raises(InputError, match=r"an action must be \(\), got \(1,\)"):
        table.step(np.array([1]))
    with pytest.raises(InputError, match=r"from 0 to 4, got 7$"):
        table.step(7)
    copies = TaskVectorEnv(MDP, N)
    copies.reset()
    with pytest.raises(InputError, match=r"from 0 to 4, got 7 for copy 2"):
        copies.step(np.array([0, 1, 7]))
    with pytest.raises(InputError, match=r"actions must be \(3,\) numbers, got .* of object"):
        copies.step(np.array([None] * N))


def test_options_that_are_none_are_refused() -> None:
    env, copies, venv = TaskEnv(VEL), TaskVectorEnv(VEL, N), TaskVecEnv(VEL, N)
    task = {"velocity": 1.0}
    with pytest.raises(InputError, match="the option tasks or task, not both"):
        copies.reset(options={"tasks": [task] * N, "task": task})
    drawn = (task for _ in range(N))
    for tasks, came in ((None, "NoneType"), (drawn, "generator"), ("abc", "str")):
        need = rf"{VEL}: a list of one task, or one of 3, is needed, got {came}"
        with pytest.raises(InputError, match=need):
            copies.reset(options={"tasks": tasks})
    for reset in (env.reset, copies.reset):
        with pytest.raises(InputError, match=r"options of reset must be a dict .* got \['task'\]"):
            reset(options=["task"])  # type: ignore[arg-type]
    venv.set_options(["task"] * N)  # type: ignore[list-item]
    with pytest.raises(InputError, match="options of reset must be a dict with task; got 'task'"):
        venv.reset()
    with pytest.raises(InputError, match="a task is a dict with velocity; got None"):
        env.reset(options={"task": None})


def test_a_whole_config_is_taken() -> None:
    config = HalfCheetahVelConfig(horizon=3)
    for env in (TaskEnv(VEL, config=config), gymnasium.make(VEL, config=config)):
        env.reset()
        ends = [env.step(np.zeros(6, dtype=np.float32))[3] for _ in range(3)]
        assert ends == [False, False, True]
    with pytest.raises(InputError, match="a preset or a whole HalfCheetahVelConfig, not both"):
        TaskEnv(VEL, preset="promp-2019", config=envs.preset(VEL))
    for wrong in (HalfCheetahDirConfig(), 3, ["horizon"]):
        with pytest.raises(InputError, match="config must be a dict of fields of HalfCheetahVelC"):
            TaskEnv(VEL, config=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"name must be a name of the table, or tasks .* got 3"):
        TaskEnv(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("indices", [7, -4, [0, 3], np.array([3]), 1.5, "a"])
def test_copies_that_there_are_not_are_refused(indices: Any) -> None:
    env = TaskVecEnv(VEL, N)
    for use in (
        lambda: env.env_method("set_task", {"velocity": 1.0}, indices=indices),
        lambda: env.get_attr("task", indices),
        lambda: env.set_attr("task", {"velocity": 1.0}, indices),
    ):
        with pytest.raises(InputError, match=rf"{VEL}: indices must be from 0 to 2, got"):
            use()


def test_copies_may_be_named_in_every_way() -> None:
    env = TaskVecEnv(VEL, N)
    for number, indices in enumerate((1, [1], (1,), np.array([1]), np.int64(1), range(1, 2), -2)):
        env.env_method("set_task", {"velocity": number / 2}, indices=indices)  # type: ignore[arg-type]
        env.reset()
        assert env.get_attr("task", 1) == [{"velocity": number / 2}]
