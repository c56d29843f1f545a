"""A user's Gymnasium environment: results are those of each copy alone; tasks and spaces."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.checks import InputError
from metarl.envs.gymnasium_workers import GymnasiumEnv
from metarl.types import Parameter, Step
from tests.envs.echoes import STREAMS, E, K, T, build, door, some_tasks, wait_until_gone

ABOUT = Parameter("which", "", (), 0.0, 4.0)


def rollout(env: GymnasiumEnv, action: Tensor) -> tuple[list[Tensor], list[Step]]:
    obs, steps = [env.reset(some_tasks(), E, STREAMS)], []
    running = torch.ones(K, E, dtype=torch.bool)
    for now in action.unbind(2):
        steps.append(env.step(now, running))
        obs.append(steps[-1].obs)
        running = running & ~steps[-1].terminated
    return obs, steps


def test_results_are_those_of_each_copy_alone_for_any_number_of_workers(echo: Any) -> None:
    action = STREAMS.normal("action", K, (E, T, 1))
    whole = None
    for workers in (1, 3):
        env = build(door(partial(echo.Echo, ends_after=4), success=True), workers)
        obs, steps = rollout(env, action)
        assert env.threads == workers
        assert len(env.worker_pids) == workers
        env.close()
        columns = [*obs, *(x for step in steps for x in step if x is not None)]
        whole = columns if whole is None else whole
        assert all(map(torch.equal, columns, whole))
    seeds = set()
    for task in range(K):
        for episode in range(E):
            number, high, low = obs[0][task, episode, :3].tolist()
            assert number == task
            seeds.add(seed := (int(high) << 16) + int(low))
            alone = echo.Echo()
            expected, _ = alone.reset(seed=seed, options={"task": {"number": number}})
            for time_, step in enumerate(steps[: 4 if task == 1 else T]):
                assert torch.equal(obs[time_][task, episode], torch.tensor(expected.flatten()))
                # The space goes from -1 to 3: -1 is its lowest, 1 its highest.
                share = float(action[task, episode, time_].clamp(-1, 1))
                expected, reward, *_ = alone.step(np.array([1.0 + 2.0 * share], np.float32))
                assert float(step.reward[task, episode]) == pytest.approx(reward, abs=1e-6)
    assert len(seeds) == K * E


def test_a_copy_that_ended_is_not_stepped(echo: Any) -> None:
    env = build(door(partial(echo.Echo, ends_after=2), success=True), 2)
    obs, steps = rollout(env, torch.zeros(K, E, T, 1))
    assert [step.terminated[1].all().item() for step in steps[:2]] == [False, True]
    assert [step.obs[1, 0, 3].item() for step in steps] == [1, 2, 2, 2, 2, 2]
    assert [step.obs[0, 0, 3].item() for step in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1].reward[1].abs().max() == 0
    assert steps[1].success is not None
    assert steps[1].success[1].all()
    assert torch.equal(obs[3][1], obs[2][1])
    env.close()


def test_blocks_restarts_and_other_numbers_of_copies(echo: Any) -> None:
    env = build(door(echo.Echo), 2)
    tasks = some_tasks()
    whole = env.reset(tasks, E, STREAMS)
    pids = env.worker_pids
    block = env.reset(tasks.take(slice(2, 4)), E, STREAMS.from_task(2))
    assert env.worker_pids == pids
    assert torch.equal(block, whole[2:])
    env.reset(tasks, E, STREAMS)
    before = env.step(torch.zeros(K, E, 1), torch.ones(K, E, dtype=torch.bool)).obs
    copies = torch.tensor([[True, False], [False, False], [True, True], [False, True]])
    obs = env.restart(copies, STREAMS.at("again"))
    assert torch.equal(obs[~copies], before[~copies])
    assert (obs[copies][:, 3] == 0).all()
    assert (obs[copies][:, 1:3] != whole[copies][:, 1:3]).any(-1).all()
    larger = env.reset(tasks, 5, STREAMS)
    assert larger.shape == (K, 5, 6)
    wait_until_gone(pids)
    assert torch.equal(larger[:, :E, :3], whole[..., :3])
    env.close()


def test_set_task_discrete_actions_and_one_hot_observations(echo: Any) -> None:
    env = build(door(echo.Chooser))
    assert (env.spec.discrete, env.spec.action_size, env.spec.observation_size) == (True, 3, 3)
    env.reset(some_tasks().take(slice(0, 3)), E, STREAMS)
    choice = torch.tensor([[0, 1], [1, 2], [0, 2]])
    step = env.step(choice, torch.ones(3, E, dtype=torch.bool))
    assert step.obs.argmax(-1).tolist() == choice.tolist()
    assert step.reward.tolist() == [[1, 0], [1, 0], [0, 1]]
    env.close()


def test_tasks_from_lists_and_functions() -> None:
    listed, _ = door("CartPole-v1").build("cpu", 1)
    drawn = listed.sample(200, STREAMS)
    assert set(drawn.parameter["number"].tolist()) == {0.0, 1.0, 2.0}
    assert torch.equal(drawn.parameter["number"], drawn.task_id.float())
    held_out = listed.held_out(5)
    assert held_out.task_id.tolist() == [3, 4, 5, 6, 7]
    assert held_out.parameter["number"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="5 held-out tasks, asked for 6"):
        listed.held_out(6)

    def draw(rng: np.random.Generator) -> dict[str, float]:
        return {"number": rng.uniform()}

    drawing, _ = door("CartPole-v1", train=draw, shifted=[{"number": 9}]).build("cpu", 1)
    numbers = drawing.sample(6, STREAMS).parameter["number"]
    assert len(torch.unique(numbers)) == 6
    assert torch.equal(numbers[2:], drawing.sample(4, STREAMS.from_task(2)).parameter["number"])
    assert drawing.held_out(1, "shifted").task_id.tolist() == [5]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"test": []}, "test must hold at least one task"),
        ({"test": {"number": 1.0}}, "test must be a list of dicts, got {'number': 1.0}"),
        ({"name": ""}, "name must be a name, such as 'my/Valley-v0'; got ''"),
        ({"make": 3}, "make must be a class, a function or an id; got 3"),
        ({"make": gymnasium.Env()}, "or an id, not an environment itself; got"),
        ({"parameters": {"numbr": ABOUT}}, "parameters: no 'numbr'; did you mean 'number'"),
        (
            {"parameters": {"number": None}},
            r"parameters: number must be a Parameter\(...\), got None",
        ),
        ({"train": []}, "train must be a function or hold at least one task"),
        ({"horizon": 0}, "horizon must be a whole number"),
        ({"timeout": 0.0}, "timeout must be"),
        ({"train": [{"mass": 1.0}]}, "train task 0 has mass; test task 0 has number"),
        ({"train": [{"number": "2"}]}, "train task 0: number must be a number"),
        ({"train": [{"number": np.inf}]}, "train task 0: number must be finite"),
        ({"train": [{"number": [1, 2]}]}, r"number has shape \(2,\), test task 0 \(\)"),
        ({"train": [3.0]}, "train task 0 must be a dict"),
        ({"make": "MountainCarContinuous-v0", "test": [{}]}, "test task 0 must be a dict"),
    ],
)
def test_tasks_and_settings_that_do_not_fit_are_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        door(**{"make": "CartPole-v1"} | more).build("cpu", 1)


def test_spaces_that_no_agent_takes_are_refused() -> None:
    class Odd(gymnasium.Env[Any, Any]):
        def __init__(self, action: Any) -> None:
            self.observation_space, self.action_space = gymnasium.spaces.Discrete(2), action

    for action, said in (
        (gymnasium.spaces.Box(-np.inf, np.inf, (1,)), "needs finite bounds"),
        (gymnasium.spaces.Box(0, 3, (1,), np.int64), "must hold floats"),
        (gymnasium.spaces.MultiBinary(2), "must be Box or Discrete"),
    ):
        with pytest.raises(InputError, match=said):
            door(partial(Odd, action)).build("cpu", 1)
    even = door(partial(Odd, gymnasium.spaces.Box(-2.0, 2.0, (1,)))).build("cpu", 1)[1]
    assert even.spec.action_limit == 2.0
