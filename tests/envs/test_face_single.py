"""The face of a single copy, and what all faces share: ids, tasks, seeds, splits, refusals."""

import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check
from stable_baselines3.common.monitor import Monitor

from metarl import envs
from metarl.checks import InputError
from metarl.envs import ENVS
from metarl.envs.gymnasium_single import TaskEnv
from metarl.envs.sb3 import TaskVecEnv
from metarl.envs.task_dicts import from_dicts
from metarl.seeding import Streams
from tests.envs.faces import GOAL, MDP, VEL, N, actions, every_env, own_action, single, vector

pytestmark = pytest.mark.filterwarnings("error")


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

    first = env.reset()[0].tolist()
    unseeded = env.np_random_seed
    assert run(unseeded) == run(unseeded)
    assert run(unseeded)[0] == first
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


def test_ppo_learns_on_the_single_face() -> None:
    model = PPO("MlpPolicy", Monitor(single(GOAL)), n_steps=32, batch_size=32, n_epochs=1)
    assert model.learn(64).num_timesteps == 64
