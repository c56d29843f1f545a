"""Rounds on several threads and in lanes: the same round, bit for bit."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import agents, envs
from metarl.protocols import HasLanes
from metarl.sampler import collect
from metarl.types import Step, Trajectories
from tests.metarl.scripted import (
    LENGTHS,
    NEVER,
    SCRIPT,
    STREAMS,
    CountingAgent,
    EchoAgent,
    Script,
    ScriptedEnv,
    T,
    sample,
    tasks,
)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("env_threads", "episodes", "torch_threads"), [(1, 512, 2), (1, 3, 1), (2, 512, 1)]
)
def test_torch_leaves_the_cores_to_the_physics_and_takes_them_back(
    env_threads: int, episodes: int, torch_threads: int
) -> None:
    never = torch.full((2, episodes), NEVER)
    env, agent = ScriptedEnv(Script(never, never), env_threads), EchoAgent()
    collect(env, tasks(2), agent, agent.begin(2, episodes), episodes, STREAMS)
    assert set(env.torch_threads) == {torch_threads}
    assert torch.get_num_threads() == 2


def test_torch_takes_the_cores_back_after_a_failure() -> None:
    with pytest.raises(FloatingPointError):
        sample(ScriptedEnv(SCRIPT, obs=(0, 2, 3)))
    assert torch.get_num_threads() == 2


def cheetah_rounds(torch_threads: int, physics_threads: int) -> list[Trajectories]:
    """Two rounds of MAML with an adaptation in between."""
    name = "metarl/HalfCheetahDir-v0"
    config: Any = replace(envs.preset(name), horizon=20)
    distribution, env = envs.build(name, config, threads=physics_threads)
    agent = agents.build("maml-trpo", env.spec, seed=1)
    torch.set_num_threads(torch_threads)
    tasks = distribution.sample(4, STREAMS)
    adapted, rounds = agent.begin(4, 3), []
    for number in range(2):
        batch, adapted = collect(env, tasks, agent, adapted, 3, STREAMS.at(number))
        assert torch.get_num_threads() == torch_threads
        adapted = agent.adapt(adapted, batch)
        rounds.append(batch)
    return rounds


def test_threads_do_not_change_a_bit() -> None:
    expected = cheetah_rounds(1, 1)
    assert expected[0].mask.all()
    # From four threads on, two lanes share the tasks.
    for threads in ((2, 1), (1, 2), (2, 2), (1, 4), (2, 5)):
        for one, other in zip(expected, cheetah_rounds(*threads), strict=True):
            for name, a, b in zip(Trajectories._fields, one, other, strict=True):
                assert torch.equal(a, b), (threads, name)


@pytest.mark.parametrize(
    ("threads", "device", "lanes"), [(1, "meta", 0), (2, "meta", 2), (3, "cpu", 0), (4, "cpu", 2)]
)
def test_lanes_need_fewer_threads_where_another_device_acts(
    threads: int, device: str, lanes: int
) -> None:
    _, env = envs.build("metarl/HalfCheetahDir-v0", threads=threads, device=device)
    assert isinstance(env, HasLanes)
    assert len(env.lanes) == lanes
    assert all(lane.threads < threads for lane in env.lanes)


class TwoLanes(ScriptedEnv):
    """Has a scripted environment for each task, and notes in which order their steps begin."""

    def __init__(self, script: Script, log: list[str], name: str = "whole") -> None:
        super().__init__(script, threads=2)
        self.lanes: list[TwoLanes] = []
        if name == "whole":
            parts = [Script(script.ends[k : k + 1], script.faults[k : k + 1]) for k in (0, 1)]
            self.lanes = [TwoLanes(part, log, str(k)) for k, part in enumerate(parts)]
        self._log, self._name = log, name

    def start_step(self, action: Tensor, running: Tensor) -> None:
        self._log.append(f"start {self._name}")
        self._result = self.step(action, running)

    def finish_step(self) -> Step:
        self._log.append(f"finish {self._name}")
        return self._result


def test_lanes_give_the_round_of_the_whole_and_step_while_others_act() -> None:
    log: list[str] = []
    batch, after = sample(TwoLanes(SCRIPT, log), CountingAgent())
    whole, whole_after = sample(ScriptedEnv(SCRIPT), CountingAgent())
    # A lane counts its tasks from 0: what says "task" in the scripted observation and reward.
    task = torch.arange(2.0)[:, None, None]
    shifted = batch._replace(
        obs=torch.cat(
            (batch.obs[..., :1], batch.obs[..., 1:2] + task[..., None], batch.obs[..., 2:]), -1
        ),
        reward=batch.reward + 10.0 * task * batch.mask,
    )
    for name, a, b in zip(Trajectories._fields, shifted, whole, strict=True):
        assert torch.equal(a, b), name
    # All of the second task's episodes are over after four of the five steps, when its lane stops.
    assert (after["acts"].tolist(), whole_after["acts"].tolist()) == ([5, 4], [5, 5])
    for name in ("counted", "ended"):
        assert torch.equal(after[name], whole_after[name]), name
    assert after["counted"].tolist() == LENGTHS
    assert after["ended"].all()
    assert log[:6] == ["start 0", "start 1", "finish 0", "start 0", "finish 1", "start 1"]


def test_tasks_that_lanes_cannot_share_evenly_go_to_the_whole() -> None:
    log: list[str] = []
    never = torch.full((3, 3), NEVER)
    env, agent = TwoLanes(Script(never, never), log), EchoAgent()
    collect(env, tasks(3), agent, agent.begin(3, 3), 3, STREAMS)
    assert not log
    assert len(env.ran) == T
