"""Told tasks: exactly the parameters are added, and nothing else changes."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from metarl import agents, envs
from metarl.agents.multi_task import AverageConfig
from metarl.checks import InputError
from metarl.envs.half_cheetah import HalfCheetahDirConfig
from metarl.envs.told import encode, told
from metarl.experiments.check.contract import check
from metarl.experiments.check.play import Subject, play
from metarl.policies import PolicyConfig
from metarl.protocols import HasLanes, VectorTaskEnv
from metarl.sampler import collect
from metarl.seeding import Streams
from metarl.types import EnvSpec, Parameter, Step, Tasks

STREAMS = Streams(2, ("told",))
CASES = {
    "metarl/PointNavigation-v0": 2,
    "metarl/TabularMDP-v0": 550,
    "metarl/HalfCheetahDir-v0": 1,
    "metarl/HalfCheetahRandParams-v0": 44,
    "metarl/PointMaze-v0": 85,
}
every_case = pytest.mark.parametrize(("name", "entries"), CASES.items())


class Pair(NamedTuple):
    plain: Subject
    told: Subject


def pair(name: str) -> Pair:
    (distribution, env), (_, other) = (envs.build(name, threads=1) for _ in range(2))
    return Pair(
        Subject(distribution, env, "start"),
        Subject(distribution, told(distribution, other), "start"),
    )


@every_case
def test_only_the_task_is_added(name: str, entries: int) -> None:
    plain, telling = pair(name)
    size = plain.env.spec.observation_size
    wider = plain.env.spec._replace(observation_size=size + entries)
    assert telling.env.spec == wider
    tasks = plain.distribution.held_out(3)
    without, with_task = (play(subject, tasks, STREAMS) for subject in (plain, telling))
    assert torch.equal(with_task.obs[..., :size], without.obs)
    assert torch.equal(with_task.reward, without.reward)
    assert torch.equal(with_task.ended, without.ended)
    code = encode(plain.distribution.parameters, tasks)
    assert torch.equal(
        with_task.obs[..., size:], code[:, None, None].expand_as(with_task.obs[..., size:])
    )
    assert len(torch.unique(code, dim=0)) > 1


@every_case
def test_the_contract_holds(name: str, entries: int) -> None:
    assert [finding for finding in check(pair(name).told) if finding.problem] == []


def test_codes_by_hand() -> None:
    parameters = {
        "velocity": Parameter("v", "m/s", (), 0.0, 4.0),
        "friction": Parameter("f", "", (2, 2), -1.0, 3.0),
        "payoff": Parameter("p", "", (1,), -1e6, 1e6),
        "fixed": Parameter("c", "", (), 2.0, 2.0),
    }
    tasks = Tasks(
        torch.tensor([-1, -1]),
        {
            "fixed": torch.tensor([2.0, 2.0]),
            "payoff": torch.tensor([[7.0], [-8.0]]),
            "velocity": torch.tensor([1.0, 4.0]),
            "friction": torch.tensor([[[-1.0, 0.0], [1.0, 3.0]], [[3.0, 2.0], [1.0, 0.0]]]),
        },
    )
    expected = [[-0.5, -1.0, -0.5, 0.0, 1.0, 7.0, 2.0], [1.0, 1.0, 0.5, 0.0, -0.5, -8.0, 2.0]]
    assert encode(parameters, tasks).tolist() == expected


@pytest.mark.parametrize("name", ["metarl/PointNavigation-v0", "metarl/AntGoal-v0"])
def test_whatever_can_be_drawn_is_told_within_one(name: str) -> None:
    distribution, _ = envs.build(name, threads=1)
    splits = [distribution.held_out(200, split) for split in distribution.held_out_lists]
    code = torch.cat([encode(distribution.parameters, tasks) for tasks in splits])
    assert code.abs().max() <= 1.0
    assert code.abs().max() > 0.5


def test_layouts_of_any_size_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"metarl/GridMaze-v0 cannot tell its tasks: walls"):
        told(*envs.build("metarl/GridMaze-v0", threads=1))


class Alone:
    """An environment without its lanes."""

    threads = 1

    def __init__(self, env: VectorTaskEnv) -> None:
        self._env, self.spec = env, env.spec

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        return self._env.reset(tasks, episodes, streams)

    def step(self, action: Tensor, running: Tensor) -> Step:
        return self._env.step(action, running)


def test_lanes_tell_each_its_own_tasks() -> None:
    config = HalfCheetahDirConfig(horizon=6)
    distribution, env = envs.build("metarl/HalfCheetahDir-v0", config, threads=4)
    telling = told(distribution, env)
    assert isinstance(telling, HasLanes)
    assert len(telling.lanes) == 2
    spec: EnvSpec = telling.spec
    net = AverageConfig(policy=PolicyConfig(hidden_sizes=(8,)))
    agent = agents.build("average", spec, net)
    tasks = distribution.sample(4, STREAMS)
    whole, lanes = (
        collect(each, tasks, agent, agent.begin(4, 3), 3, STREAMS)[0]
        for each in (Alone(telling), telling)
    )
    assert torch.equal(
        lanes.obs[..., -1], tasks.parameter["direction"][:, None, None].expand(4, 3, 7)
    )
    torch.testing.assert_close(lanes.obs, whole.obs)
    torch.testing.assert_close(lanes.reward, whole.reward)
