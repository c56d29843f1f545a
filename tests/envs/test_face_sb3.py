"""The face of several copies that Stable-Baselines3 sees."""

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from metarl.checks import InputError
from metarl.envs.gymnasium_single import TaskEnv
from metarl.envs.gymnasium_vector import TaskVectorEnv
from metarl.envs.sb3 import TaskVecEnv
from tests.envs.faces import CHEETAH, MDP, ROCKET, VEL, N, actions, every_env, vector

pytestmark = pytest.mark.filterwarnings("error")


@every_env
def test_the_vec_env_does_what_the_vector_face_does(name: str) -> None:
    one, other = vector(name), TaskVecEnv(name, N)
    obs, _ = one.reset(seed=3)
    other.seed(3)
    assert np.array_equal(obs, other.reset())
    for action in actions(one, 25):
        obs, reward, terminated, truncated, infos = one.step(action)
        there, rewards, dones, their_infos = other.step(action)
        assert isinstance(there, np.ndarray)
        assert np.array_equal(obs, there)
        assert np.array_equal(reward.astype(np.float32), rewards)
        assert np.array_equal(terminated | truncated, dones)
        for copy in dones.nonzero()[0]:
            info = their_infos[copy]
            assert np.array_equal(info["terminal_observation"], infos["final_obs"][copy])
            assert info["TimeLimit.truncated"] == truncated[copy]


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


@pytest.mark.parametrize("name", [CHEETAH, MDP])
def test_ppo_learns_on_the_vec_env(name: str) -> None:
    env = VecMonitor(TaskVecEnv(name, 4, config={"horizon": 10}))
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=32, n_epochs=1, device="cpu")
    model.learn(128)
    assert len(model.ep_info_buffer or ()) == 12
    assert all(episode["l"] == 10 for episode in model.ep_info_buffer or ())
    mean, _ = evaluate_policy(model, env, n_eval_episodes=4, warn=False)
    assert np.isfinite(mean)


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
