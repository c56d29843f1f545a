"""The faces that the environments show to Gymnasium and Stable-Baselines3."""

import itertools
import subprocess
import sys
import warnings
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from metarl import envs
from metarl.checks import InputError
from metarl.envs import ENVS
from metarl.envs.from_mjcf import FromMjcf, Goal
from metarl.envs.gymnasium_single import TaskEnv
from metarl.envs.gymnasium_vector import TaskVectorEnv
from metarl.envs.sb3 import TaskVecEnv
from metarl.envs.task_dicts import from_dicts
from metarl.protocols import VectorTaskEnv
from metarl.seeding import Streams

N = 3
GOAL, CHEETAH = "metarl/PointNavigation-v0", "metarl/HalfCheetahDir-v0"
VEL, MDP = "metarl/HalfCheetahVel-v0", "metarl/TabularMDP-v0"
GRID = "metarl/GridNavi-v0"
FINITE = {GOAL: "pearl-2019"}  # where tasks have a place in a list
ROCKET = FromMjcf(  # its simulator fails under a full push
    name="my/Rocket-v0",
    xml="""
    <mujoco>
      <worldbody>
        <body><joint name="slide" type="slide" axis="1 0 0"/><geom size="0.1" mass="1"/></body>
      </worldbody>
      <actuator><motor joint="slide" gear="1e13" ctrlrange="-1 1"/></actuator>
    </mujoco>
    """,
    reward=lambda moved: moved.after[:, 0] - moved.parameter["place"],
    horizon=20,
    substeps=1,
    goals=(Goal("place", low=0.0, high=1.0),),
)
every_env = pytest.mark.parametrize("name", ENVS)


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def single(name: str, **settings: Any) -> TaskEnv:
    env = gymnasium.make(name, **settings).unwrapped
    assert isinstance(env, TaskEnv)
    return env


def vector(name: str, num_envs: int = N, **settings: Any) -> TaskVectorEnv:
    env = gymnasium.make_vec(name, num_envs=num_envs, **settings)
    assert isinstance(env, TaskVectorEnv)
    return env


def actions(env: gymnasium.Env[Any, Any], number: int) -> list[Any]:
    env.action_space.seed(5)
    return [env.action_space.sample() for _ in range(number)]


def own_action(env: VectorTaskEnv, action: Any) -> torch.Tensor:
    """What the environment itself takes for an action of its faces."""
    tensor = torch.as_tensor(action)
    return tensor if env.spec.discrete else tensor * env.spec.action_limit


def to_goal(goal: list[float]) -> list[np.ndarray[Any, Any]]:
    """Shares of the largest step that lead from the origin to a goal and not beyond."""
    offset, moves = np.array(goal), []
    while np.abs(offset).max() > 1e-3:
        moves.append(np.clip(offset, -0.1, 0.1))
        offset = offset - moves[-1]
    return [move.astype(np.float32) * 10.0 for move in moves]


def test_the_registered_ids_are_those_of_the_table() -> None:
    ids = [name for name in gymnasium.registry if name.startswith("metarl/")]
    assert sorted(ids) == sorted(ENVS)


@pytest.mark.parametrize("env_id", [VEL, f"metarl.envs:{VEL}"])
def test_a_fresh_process_makes_an_environment_by_its_id(env_id: str) -> None:
    first = "" if ":" in env_id else "import metarl.envs\n"
    make = f"gymnasium.make({env_id!r}, preset='promp-2019', split='test')"
    code = f"import gymnasium\n{first}{make}"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@every_env
def test_the_checkers_of_both_libraries_are_content(name: str) -> None:
    # Said of every unbounded observation, of Gymnasium's own MuJoCo environments too.
    gymnasium_check(single(name), skip_render_check=True)
    sb3_check(single(name))


@every_env
def test_the_single_face_does_what_the_batch_does(name: str) -> None:
    face = single(name, split="test")
    distribution, env = envs.build(name, threads=1)
    obs, info = face.reset(seed=7)
    tasks = from_dicts(name, distribution.parameters, [info["task"]])
    start = env.reset(tasks, 1, Streams(7).at("face", "start", 0))
    assert np.array_equal(obs, start[0, 0].numpy())
    for time, action in enumerate(actions(face, min(12, env.spec.horizon)), 1):
        step = env.step(own_action(env, action)[None, None], torch.ones(1, 1, dtype=torch.bool))
        obs, reward, terminated, truncated, info = face.step(action)
        assert np.array_equal(obs, step.obs[0, 0].numpy())
        assert reward == float(step.reward)
        late = time == env.spec.horizon
        only_one = env.spec.horizon == 1
        assert terminated == (bool(step.terminated) or only_one)
        assert truncated == (late and not terminated)
        assert info.get("success") == (None if step.success is None else bool(step.success))
        if terminated:
            break


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


@every_env
def test_the_vec_env_does_what_the_vector_face_does(name: str) -> None:
    one, other = vector(name), TaskVecEnv(name, N)
    obs, _ = one.reset(seed=3)
    other.seed(3)
    assert np.array_equal(obs, other.reset())
    for action in actions(one, 25):
        obs, reward, terminated, truncated, infos = one.step(action)
        there, rewards, dones, their_infos = other.step(action)
        assert np.array_equal(obs, there)
        assert np.array_equal(reward.astype(np.float32), rewards)
        assert np.array_equal(terminated | truncated, dones)
        for copy in dones.nonzero()[0]:
            info = their_infos[copy]
            assert np.array_equal(info["terminal_observation"], infos["final_obs"][copy])
            assert info["TimeLimit.truncated"] == truncated[copy]


@every_env
def test_only_its_owner_changes_a_task(name: str) -> None:
    env = single(name, config={"horizon": 3})
    first, other = env.sample_tasks(2)
    env.set_task(first)
    assert env.reset(seed=0)[1]["task"] == first
    for seed in (None, 1, None):
        env.sample_tasks(2)
        assert env.reset(seed=seed)[1]["task"] == first
        for action in actions(env, 3):
            env.step(action)
    env.set_task(other)
    assert env.task == first  # until the next reset
    assert env.reset()[1]["task"] == other
    assert env.reset(options={"task": first})[1]["task"] == first
    copies = vector(name, config={"horizon": 3})
    copies.reset(seed=0)
    before = copies.tasks
    copies.set_tasks([other])
    for action in actions(copies, 7):
        copies.step(action)
    assert copies.tasks == before
    copies.reset()
    assert copies.tasks == [other] * N


@every_env
def test_seeds_repeat_and_go_on(name: str) -> None:
    env = single(name)

    def run(seed: int | None) -> list[Any]:
        obs, _ = env.reset(seed=seed)
        steps = [env.step(action)[:2] for action in actions(env, env_horizon(env))]
        return [obs.tolist(), [(obs.tolist(), reward) for obs, reward in steps]]

    env.reset()
    unseeded = env.np_random_seed
    assert run(unseeded) == run(unseeded)
    again = run(None)
    assert again == [run(unseeded), run(None)][1]
    assert env.sample_tasks(2) == [env.reset(seed=unseeded), env.sample_tasks(2)][1]


def env_horizon(env: TaskEnv) -> int:
    return min(10, envs.preset(env.spec.id).horizon) if env.spec else 1


@every_env
def test_splits_give_their_own_tasks(name: str) -> None:
    distribution, _ = envs.build(name, threads=1)
    for split in distribution.held_out_lists:
        env = single(name, split=split)
        length = min(4, distribution.held_out_lists[split] or 4)
        frozen = from_dicts(name, distribution.parameters, env.held_out_tasks(length))
        expected = distribution.held_out(length, split)
        for key, leaf in expected.parameter.items():
            assert torch.equal(frozen.parameter[key], leaf)
        assert env.held_out_tasks(1) == [env.task]
        assert env.sample_tasks(length) == env.held_out_tasks(length)
    env = single(name)
    env.reset(seed=0)
    drawn = [str(env.sample_tasks(8)) for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_settings_are_refused_by_name() -> None:
    for settings, message in (
        ({"preset": "promp-2018"}, "did you mean 'promp-2019'"),
        ({"split": "tests"}, "did you mean 'test'"),
        ({"config": {"horizn": 3}}, "field of HalfCheetahVelConfig.*did you mean 'horizon'"),
        ({"config": {"horizon": 0}}, "HalfCheetahVelConfig.horizon must be"),
        ({"render_mode": "human2"}, "rgb_array"),
    ):
        with pytest.raises(InputError, match=message):
            TaskEnv(VEL, **settings)
    with pytest.raises(InputError, match="did you mean 'SameStep'"):
        gymnasium.make_vec(VEL, autoreset_mode="SameStp")
    with pytest.raises(InputError, match=r"num_envs must be a whole number .* got 0"):
        TaskVecEnv(VEL, 0)
    with pytest.raises(InputError, match="no 'metarl/Velocity"):
        TaskVecEnv("metarl/Velocity-v0", 1)


def test_mistakes_in_use_are_refused_by_name() -> None:
    env, copies = single(VEL), vector(VEL)
    with pytest.raises(RuntimeError, match="reset comes before step"):
        env.step(env.action_space.sample())
    for reset in (env.reset, copies.reset):
        with pytest.raises(InputError, match="no 'taks'; did you mean 'task"):
            reset(options={"taks": {"velocity": 1.0}})
    with pytest.raises(InputError, match=r"velocity .* from 0 to 4 m/s, got -1"):
        env.set_task({"velocity": -1})
    with pytest.raises(InputError, match="a list of one task, or one of 3, is needed, got 2"):
        copies.set_tasks([{"velocity": 1.0}] * 2)
    with pytest.raises(InputError, match="a list of one task"):
        copies.set_tasks({"velocity": 1.0})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="30 held-out tasks, asked for 31"):
        single(VEL, preset="pearl-2019", split="test").sample_tasks(31)
    env.reset()
    with pytest.raises(InputError, match=r"an action must be \(6,\), got \(5,\)"):
        env.step(np.zeros(5))
    table = single(MDP)
    table.reset()
    for choice in (-1, 5, 1.5):
        with pytest.raises(InputError, match="choices are whole numbers from 0 to 4"):
            table.step(choice)


def test_tasks_of_a_finite_list_keep_their_place() -> None:
    env = single(VEL, preset="pearl-2019", split="test")
    tasks = env.sample_tasks(3)
    assert [task["task_id"] for task in tasks] == [100, 101, 102]
    assert env.reset(options={"task": tasks[2]})[1]["task_id"] == 102
    assert env.reset(options={"task": {"velocity": 1.0}})[1]["task_id"] == -1


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
    ends, places = [], []
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
        env.unwrapped.set_task(task)
    theirs.reset(seed=1)
    action = np.tile(np.array([1.0, 0.0], np.float32), (N, 1))
    action[2, 0] = 0.5
    for _ in range(10):
        one, other = ours.step(action), theirs.step(action)
        for a, b in zip(one[:4], other[:4], strict=True):
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


def test_a_failed_step_truncates_where_the_copy_was() -> None:
    env, copies, venv = TaskEnv(ROCKET), TaskVectorEnv(ROCKET, N), TaskVecEnv(ROCKET, N)
    start, _ = env.reset(seed=1)
    obs, reward, terminated, truncated, info = env.step(np.array([1.0]))
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info == {"task_id": -1, "faulty": True}
    assert np.array_equal(obs, start)
    action = np.array([[0.0], [1.0], [0.0]])
    starts, _ = copies.reset(seed=1)
    seen, rewards, ends, cuts, infos = copies.step(action)
    assert cuts.tolist() == infos["final_info"]["faulty"].tolist() == [False, True, False]
    assert not ends.any()
    assert np.array_equal(infos["final_obs"][1], starts[1])
    assert not np.array_equal(seen[1], starts[1])
    assert rewards[1] == 0.0
    assert np.isfinite(seen).all()
    venv.seed(1)
    venv.reset()
    venv_infos = venv.step(action)[3]
    assert venv_infos[1]["faulty"]
    assert venv_infos[1]["TimeLimit.truncated"]
    assert np.array_equal(venv_infos[1]["terminal_observation"], starts[1])
    assert venv_infos[0] == {}


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
    for action in actions(env, 10):  # type: ignore[arg-type]
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


@pytest.mark.parametrize("name", [CHEETAH, MDP])
def test_ppo_learns_on_the_vec_env(name: str) -> None:
    env = VecMonitor(TaskVecEnv(name, 4, config={"horizon": 10}))
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=32, n_epochs=1, device="cpu")
    model.learn(128)
    assert len(model.ep_info_buffer or ()) == 12
    assert all(episode["l"] == 10 for episode in model.ep_info_buffer or ())
    mean, _ = evaluate_policy(model, env, n_eval_episodes=4, warn=False)
    assert np.isfinite(mean)


def test_ppo_learns_on_the_single_face() -> None:
    model = PPO("MlpPolicy", Monitor(single(GOAL)), n_steps=32, batch_size=32, n_epochs=1)
    assert model.learn(64).num_timesteps == 64


def test_the_vec_env_speaks_of_single_copies() -> None:
    env = TaskVecEnv(VEL, N)
    env.reset()
    first = env.tasks
    env.env_method("set_task", {"velocity": 1.0}, indices=[1])
    env.set_attr("task", {"velocity": 2.0}, indices=2)
    assert env.get_attr("task") == first
    env.reset()
    velocity = [task["velocity"] for task in env.get_attr("task")]
    assert velocity == [first[0]["velocity"], 1.0, 2.0]
    env.set_options([{}, {"task": {"velocity": 3.0}}, {}])
    env.reset()
    assert [info["task"]["velocity"] for info in env.reset_infos] == [velocity[0], 3.0, 2.0]
    env.reset()
    assert env.get_attr("task", [1]) == [{"velocity": 3.0}]
    assert env.get_attr("task_id") == [-1] * N
    assert [len(tasks) for tasks in env.env_method("sample_tasks", 2)] == [2] * N
    assert env.env_is_wrapped(Monitor) == [False] * N
    assert env.has_attr("render_mode")
    assert not env.has_attr("no_such")
    with pytest.raises(AttributeError, match="did you mean 'task'"):
        env.get_attr("taks")
    with pytest.raises(AttributeError, match="did you mean 'set_task'"):
        env.env_method("set_tsk")
    with pytest.raises(AttributeError, match="known: task"):
        env.set_attr("horizon", 3)
    env.set_options({"tsk": 1})
    with pytest.raises(InputError, match="option of reset"):
        env.reset()


def test_sb3s_wrappers_take_the_vec_env() -> None:
    env = VecNormalize(VecMonitor(TaskVecEnv(CHEETAH, N, config={"horizon": 2})))
    env.reset()
    for _ in range(2):
        _, _, dones, infos = env.step(np.zeros((N, 6), dtype=np.float32))
    assert dones.all()
    assert all({"episode", "terminal_observation"} <= info.keys() for info in infos)
    assert all(info["TimeLimit.truncated"] for info in infos)


def test_actions_may_be_of_any_kind_and_stay_as_they_are() -> None:
    env = vector(CHEETAH)
    read_only = np.broadcast_to(np.full(6, 0.5), (N, 6))
    env.reset(seed=1)
    expected = env.step(np.full((N, 6), 0.5, dtype=np.float32))[0]
    env.reset(seed=1)
    assert np.array_equal(env.step(read_only)[0], expected)
    assert (read_only == 0.5).all()
    env.reset(seed=1)
    assert np.array_equal(env.step(read_only.tolist())[0], expected)  # type: ignore[arg-type]


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
