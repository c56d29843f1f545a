"""The evaluator: every task from nothing, by the adaptation of training, on any split of tasks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from metarl import agents, envs
from metarl.agents import AgentConfig
from metarl.agents.maml import MamlTrpoConfig
from metarl.agents.reptile import ReptileConfig
from metarl.envs import EnvConfig
from metarl.envs.half_cheetah import HalfCheetahVelConfig
from metarl.envs.navigation import NavigationConfig
from metarl.envs.tabular import TabularMDPConfig
from metarl.evaluation import EvaluationConfig, adaptation_curve
from metarl.policies import PolicyConfig
from metarl.protocols import Algorithm, TaskDistribution, VectorTaskEnv
from metarl.sampler import collect, scores
from metarl.seeding import Streams
from metarl.trainer import TrainConfig, meta_train
from metarl.types import Acted, Adapted, EnvSpec, Metrics, Step, Tasks, Trajectories

STREAMS = Streams(6, ("evaluation",))
WORLDS: Mapping[str, EnvConfig] = {
    "metarl/PointNavigation-v0": NavigationConfig(horizon=20),
    "metarl/TabularMDP-v0": TabularMDPConfig(),
    "metarl/HalfCheetahVel-v0": HalfCheetahVelConfig(horizon=15),
}
K, E, N = 5, 3, 2
NET = PolicyConfig(hidden_sizes=(16, 16))
AGENTS: Mapping[str, AgentConfig] = {
    "maml-trpo": MamlTrpoConfig(policy=NET, inner_lr=0.3),
    "reptile": ReptileConfig(policy=NET, inner_lr=0.3),
}

every_world = pytest.mark.parametrize("name", WORLDS)
every_agent = pytest.mark.parametrize("agent_name", AGENTS)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class World(NamedTuple):
    distribution: TaskDistribution
    env: VectorTaskEnv
    agent: Algorithm


def world(name: str, agent_name: str = "maml-trpo") -> World:
    distribution, env = envs.build(name, WORLDS[name], threads=1)
    return World(distribution, env, agents.build(agent_name, env.spec, AGENTS[agent_name], seed=2))


def curve(here: World, tasks: Tasks, streams: Streams = STREAMS, **config: Any) -> Tensor:
    settings = replace(EvaluationConfig(episodes=E, adaptations=N), **config)
    return adaptation_curve(here.agent, here.env, tasks, settings, streams).score


class PayWhatYouDo:
    """One step; the reward is the action, whatever the task."""

    threads = 1
    spec = EnvSpec("test/PayWhatYouDo-v0", 1, 1, False, 1, score_is_total=False)

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        self._obs = torch.zeros(len(tasks.task_id), episodes, 1)
        return self._obs

    def step(self, action: Tensor, running: Tensor) -> Step:
        never = torch.zeros_like(running)
        return Step(self._obs, action[..., 0], never, never)


class Counter:
    """Acts by the number of adaptations to this very task since ``begin``."""

    def begin(self, num_tasks: int, episodes: int) -> Adapted:
        return {"adaptations": torch.zeros(num_tasks)}

    def act(self, adapted: Adapted, obs: Tensor, noise: Tensor) -> Acted:
        action = adapted["adaptations"][:, None, None].expand_as(noise)
        return Acted(action, torch.zeros(obs.shape[:2]), adapted)

    def adapt(self, adapted: Adapted, batch: Trajectories) -> Adapted:
        assert not torch.is_grad_enabled()
        return {"adaptations": adapted["adaptations"] + 1}

    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        raise AssertionError("an evaluation must not learn across tasks")

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        raise AssertionError("an evaluation must not touch the agent's state")


@pytest.mark.parametrize("tasks_at_once", [1, 2, 7, 40])
def test_every_task_starts_from_nothing(tasks_at_once: int) -> None:
    tasks = Tasks(torch.arange(7), {"nothing": torch.zeros(7)})
    config = EvaluationConfig(episodes=2, adaptations=3, tasks_at_once=tasks_at_once)
    result = adaptation_curve(Counter(), PayWhatYouDo(), tasks, config, STREAMS)
    assert result.score.tolist() == [[0, 1, 2, 3]] * 7


@every_agent
@every_world
def test_results_do_not_depend_on_how_tasks_are_split(name: str, agent_name: str) -> None:
    here = world(name, agent_name)
    tasks = here.distribution.held_out(K)
    together = curve(here, tasks)
    assert together.shape == (K, N + 1)
    assert torch.isfinite(together).all()
    for tasks_at_once in (1, 2, 4):
        assert torch.equal(curve(here, tasks, tasks_at_once=tasks_at_once), together)
    for k in range(K):
        alone = curve(here, tasks.take(slice(k, k + 1)), STREAMS.from_task(k))
        assert torch.equal(alone, together[k : k + 1])


def test_one_episode_of_one_task_is_no_exception() -> None:
    here = world("metarl/PointNavigation-v0")
    tasks = here.distribution.held_out(K)
    together = curve(here, tasks, episodes=1)
    assert torch.equal(curve(here, tasks, episodes=1, tasks_at_once=1), together)


@every_agent
@every_world
def test_the_first_rounds_do_not_depend_on_how_many_follow(name: str, agent_name: str) -> None:
    here = world(name, agent_name)
    tasks = here.distribution.held_out(K)
    longest = curve(here, tasks, adaptations=3)
    for adaptations in range(3):
        shorter = curve(here, tasks, adaptations=adaptations)
        assert torch.equal(shorter, longest[:, : adaptations + 1])


@every_agent
@every_world
def test_an_evaluation_changes_nothing(name: str, agent_name: str) -> None:
    here = world(name, agent_name)
    tasks = here.distribution.held_out(K)
    before = {key: leaf.clone() for key, leaf in here.agent.state_dict().items()}
    first = curve(here, tasks)
    after = here.agent.state_dict()
    assert before.keys() == after.keys()
    for key, leaf in before.items():
        assert torch.equal(after[key], leaf), key
    assert torch.equal(curve(here, tasks), first)


@every_agent
@every_world
def test_adaptation_by_hand(name: str, agent_name: str) -> None:
    here = world(name, agent_name)
    tasks = here.distribution.held_out(K)
    adapted, columns = here.agent.begin(K, E), []
    for number in range(N + 1):
        place = STREAMS.at("round", number)
        batch, adapted = collect(here.env, tasks, here.agent, adapted, E, place)
        columns.append(scores(batch, here.env.spec))
        adapted = here.agent.adapt(adapted, batch)
    assert torch.equal(curve(here, tasks), torch.stack(columns, 1))
    assert not torch.equal(columns[0], columns[1])


@every_agent
@every_world
def test_testing_adapts_as_training_does(name: str, agent_name: str) -> None:
    here, streams = world(name, agent_name), Streams(9)
    place = streams.at("train", 0)
    tasks = here.distribution.sample(4, place.at("tasks"))
    tested = curve(here, tasks, place, adaptations=1).mean(0)
    config = TrainConfig(iterations=1, tasks_per_update=4, episodes=E, adaptations=1)
    training = meta_train(here.agent, here.env, here.distribution, config, streams)
    metrics = next(iter(training)).metrics
    assert metrics["meta/pre_return"] == pytest.approx(tested[0].item(), rel=1e-6)
    assert metrics["meta/post_return"] == pytest.approx(tested[1].item(), rel=1e-6)


def test_no_step_size_no_change_but_in_the_noise() -> None:
    name = "metarl/PointNavigation-v0"
    distribution, env = envs.build(name, WORLDS[name])
    still, eager = (
        agents.build("maml-trpo", env.spec, MamlTrpoConfig(policy=NET, inner_lr=lr), seed=2)
        for lr in (0.0, 0.5)
    )
    tasks = distribution.held_out(K)
    flat, steep = (curve(World(distribution, env, agent), tasks) for agent in (still, eager))
    assert torch.equal(flat[:, 0], steep[:, 0])
    assert not torch.equal(flat[:, 1], steep[:, 1])


def test_take_keeps_places_together() -> None:
    parameter = {"goal": torch.arange(10.0).reshape(5, 2), "size": torch.arange(5.0)}
    part = Tasks(torch.arange(5) * 11, parameter).take(slice(1, 3))
    assert part.task_id.tolist() == [11, 22]
    assert part.parameter["goal"].tolist() == [[2, 3], [4, 5]]
    assert part.parameter["size"].tolist() == [1, 2]


@pytest.mark.parametrize("field", ["episodes", "adaptations", "tasks_at_once"])
@pytest.mark.parametrize("wrong", [0, -1, 1.5, math.nan, True, "2"])
def test_a_bad_setting_is_refused_by_name(field: str, wrong: object) -> None:
    good: dict[str, Any] = {"episodes": 2, "adaptations": 1}
    if (field, wrong) == ("adaptations", 0):
        assert EvaluationConfig(episodes=2, adaptations=0).adaptations == 0
        return
    with pytest.raises(ValueError, match=rf"EvaluationConfig\.{field} must be a whole number"):
        EvaluationConfig(**(good | {field: wrong}))
