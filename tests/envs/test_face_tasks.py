"""Where the tasks of a face come from: seeds, frozen lists, and tasks of the user's own."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor

from metarl.checks import InputError
from metarl.envs.gymnasium_single import TaskEnv
from metarl.envs.gymnasium_vector import TaskVectorEnv
from metarl.envs.own import FromTensors, OwnTasks
from metarl.envs.sb3 import TaskVecEnv
from metarl.experiments.check.command import load

N = 4
VEL, GOAL, GRID = "metarl/HalfCheetahVel-v0", "metarl/PointNavigation-v0", "metarl/GridNavi-v0"
TEMPLATES = Path(__file__).resolve().parents[2] / "docs" / "templates"
FINITE: dict[str, Any] = {"preset": "pearl-2019", "split": "test"}

pytestmark = pytest.mark.filterwarnings("error")


def own(template: str) -> OwnTasks:
    return load(f"{TEMPLATES / template}:ENV")


def goals_of(**settings: Any) -> list[Any]:
    """The first task of each copy, made as Gymnasium's users do."""
    copies = gymnasium.make_vec(GOAL, num_envs=N, **settings)
    told = copies.reset(seed=5)[1]["task"]["goal"]
    copies.step(copies.action_space.sample())
    again = copies.reset(seed=6)[1]["task"]["goal"]
    copies.close()
    assert np.array_equal(told, again)  # later seeds are not for tasks
    return [tuple(goal) for goal in told]


@pytest.mark.parametrize("mode", ["sync", "async", "vector_entry_point"])
def test_copies_of_every_making_have_tasks_of_their_own(mode: str) -> None:
    goals = goals_of(vectorization_mode=mode)
    assert len(set(goals)) == N
    assert goals_of(vectorization_mode=mode) == goals


def test_copies_of_sb3s_making_have_tasks_of_their_own() -> None:
    def goals(seed: int | None) -> list[Any]:
        env = make_vec_env(GOAL, n_envs=N, seed=seed)
        env.reset()
        return [info["task"]["goal"] for info in env.reset_infos]

    first = goals(3)
    assert len(set(map(tuple, first))) == N
    assert goals(3) == first
    assert len(set(map(tuple, goals(None)))) == N


def test_the_first_seed_that_is_given_draws_the_first_task() -> None:
    def task_after(*seeds: int | None) -> Any:
        env = TaskEnv(VEL)
        assert 0.0 <= env.task["velocity"] <= 4.0
        return [env.reset(seed=seed)[1]["task"] for seed in seeds][-1]

    assert task_after(1) == task_after(None, 1) == task_after(1, 2) == task_after(1, None)
    assert task_after(1) != task_after(2)
    assert task_after(None) != task_after(None)
    env = TaskEnv(VEL)
    assert env.task == env.reset()[1]["task"]
    env = TaskEnv(VEL)
    env.set_task({"velocity": 1.5})
    assert env.reset(seed=1)[1]["task"] == {"velocity": 1.5}


def test_a_vec_env_keeps_a_seed_for_the_next_reset() -> None:
    env, other = TaskVecEnv(VEL, 2), TaskVecEnv(VEL, 2)
    for copies in (env, other):
        copies.seed(1)
    assert env.tasks == env.tasks
    obs = env.reset()
    assert np.array_equal(obs, other.reset())
    assert env.tasks == other.tasks
    env.seed(7)
    other.seed(7)
    _ = env.tasks, env.get_attr("task_id"), env.sample_tasks(2)
    ends = np.zeros((2, 6), dtype=np.float32)
    there, elsewhere = env.step(ends)[0], other.step(ends)[0]
    assert isinstance(there, np.ndarray)
    assert isinstance(elsewhere, np.ndarray)
    assert np.array_equal(there, elsewhere)
    assert np.array_equal(env.reset(), other.reset())


def test_copies_of_a_frozen_list_begin_at_its_first() -> None:
    env = TaskEnv(VEL, **FINITE)
    assert env.reset(seed=1)[1]["task_id"] == env.reset(seed=2)[1]["task_id"] == 100
    copies = TaskVectorEnv(VEL, N, **FINITE)
    assert copies.reset(seed=9)[1]["task_id"].tolist() == [100, 101, 102, 103]


def test_a_loop_over_a_frozen_list_meets_each_task_once() -> None:
    env, met = TaskEnv(VEL, **FINITE), []
    for seed in range(30):
        _, info = env.reset(seed=seed, options={"task": env.sample_tasks(1)[0]})
        met.append(info["task_id"])
    assert met == list(range(100, 130))
    assert [task["task_id"] for task in env.sample_tasks(29)] == met[:29]
    assert [task["task_id"] for task in env.sample_tasks(3)] == [129, 100, 101]
    assert [task["task_id"] for task in env.held_out_tasks(3)] == met[:3]
    for ask in (env.sample_tasks, env.held_out_tasks):
        with pytest.raises(InputError, match="30 held-out tasks, asked for 31"):
            ask(31)


def test_a_list_without_end_goes_on() -> None:
    env = TaskEnv(GOAL, split="test")
    first = env.held_out_tasks(9)
    walked = [task for number in (1, 3, 1, 4) for task in env.sample_tasks(number)]
    assert walked == first
    assert env.held_out_tasks(9) == first


def test_held_out_tasks_are_those_of_the_split_and_of_test_in_training() -> None:
    test, shifted = (TaskEnv(VEL, split=split).held_out_tasks(2) for split in ("test", "shifted"))
    assert test != shifted
    assert TaskEnv(VEL).held_out_tasks(2) == test
    assert TaskVectorEnv(VEL, 3).held_out_tasks(2) == test
    venv = TaskVecEnv(VEL, 2, split="shifted")
    assert venv.env_method("held_out_tasks", 2) == [shifted, shifted]
    assert venv.env_method("sample_tasks", 1) == [shifted[:1], shifted[1:]]


def test_monitors_read_the_task_and_success() -> None:
    settings = {**FINITE, "config": {"horizon": 2}}
    env = Monitor(TaskEnv(GOAL, **settings), info_keywords=("task_id", "is_success"))
    env.reset(seed=1)
    for _ in range(2):
        *_, truncated, info = env.step(np.zeros(2, dtype=np.float32))
        assert ("is_success" in info) == truncated
    assert (
        info["episode"]["task_id"]
        == info["task_id"]
        == env.unwrapped.get_wrapper_attr("task")["task_id"]
    )
    copies = VecMonitor(TaskVecEnv(GOAL, 2, **settings), info_keywords=("task_id", "is_success"))
    copies.reset()
    for _ in range(2):
        infos = copies.step(np.zeros((2, 2), dtype=np.float32))[3]
    first = info["task_id"]
    assert [told["episode"]["task_id"] for told in infos] == [first, first + 1]
    assert not any(told["episode"]["is_success"] for told in infos)


def test_sb3_logs_how_often_the_goal_was_reached(tmp_path: Path) -> None:
    env = Monitor(TaskEnv(GOAL))
    env.unwrapped.get_wrapper_attr("set_task")({"goal": [0.0, 0.0]})  # the origin: reached at once
    callback = EvalCallback(
        env, n_eval_episodes=2, eval_freq=8, log_path=str(tmp_path), verbose=0, warn=False
    )
    model = PPO("MlpPolicy", Monitor(TaskEnv(GOAL)), n_steps=8, batch_size=8, device="cpu")
    model.learn(8, callback=callback)
    assert len(callback.evaluations_successes) == 1


@pytest.mark.parametrize("template", ["cart_pole.py", "gymnasium_env.py"])
def test_ppo_trains_on_tasks_of_ones_own(template: str) -> None:
    copies = TaskVecEnv(own(template), 2, threads=1)
    model = PPO("MlpPolicy", copies, n_steps=16, batch_size=16, n_epochs=1, device="cpu")
    assert model.learn(64).num_timesteps == 64
    assert len({str(task) for task in copies.tasks}) == 2
    copies.close()


def test_every_face_takes_tasks_of_ones_own() -> None:
    tasks = own("cart_pole.py")
    env = TaskEnv(tasks, split="shifted")
    _, info = env.reset(seed=1)
    assert info["task"] == env.held_out_tasks(1)[0]
    copies = TaskVectorEnv(tasks, 3, threads=2)
    obs, infos = copies.reset(seed=1)
    assert obs.shape == (3, 4)
    assert len(set(infos["task"]["place"].tolist())) == 3
    with pytest.raises(InputError, match=r"did you mean 'shifted'"):
        TaskEnv(tasks, split="shiftd")
    for settings in ({"preset": "mine"}, {"config": {"horizon": 3}}):
        with pytest.raises(InputError, match=r"my/CartPole-v0: .* no preset and no config"):
            TaskEnv(tasks, **settings)


def test_tasks_of_ones_own_may_be_registered() -> None:
    gymnasium.register(
        "my/CartPole-v0",
        entry_point=TaskEnv,  # type: ignore[arg-type]  # it is asked to take any keyword
        kwargs={"name": own("cart_pole.py")},
    )
    try:
        env = gymnasium.make("my/CartPole-v0", split="test")
        assert env.reset(seed=1)[0].shape == (4,)
    finally:
        gymnasium.registry.pop("my/CartPole-v0")


def test_an_environment_that_cannot_restart_is_shown_alone() -> None:
    tasks = own("tensor_env.py")
    assert isinstance(tasks, FromTensors)
    env = TaskEnv(tasks)
    env.reset(seed=1)
    for _ in range(50):
        *_, truncated, _ = env.step(np.array([0.5], dtype=np.float32))
    assert truncated
    with pytest.raises(InputError, match=r"my/Cart-v0: CartEnv has no restart .* num_envs must be"):
        TaskVecEnv(tasks, 2)


def test_threads_are_as_many_as_asked_for() -> None:
    tasks, asked = own("tensor_env.py"), []

    def build(device: str, threads: int) -> Any:
        asked.append(threads)
        return tasks.build(device, threads)

    for face in (TaskVectorEnv, TaskVecEnv):
        face(FromTensors("my/Cart-v0", build), 1, threads=3)
        face(FromTensors("my/Cart-v0", build), 1, threads=np.int64(2))  # type: ignore[arg-type]
        assert face(VEL, 2, threads=1).num_envs == 2
    TaskEnv(FromTensors("my/Cart-v0", build))
    assert asked == [3, 2, 3, 2, 1]
