"""Devices: nothing hidden goes through the host; a GPU, where there is one, agrees with the CPU."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from metarl import agents, envs, trees
from metarl.adaptation import AdvantageConfig, Lesson, Rounds, prepare
from metarl.agents import AgentConfig
from metarl.agents.imaml import ImamlTrpoConfig
from metarl.agents.maml import MamlTrpoConfig
from metarl.agents.multi_task import JointConfig
from metarl.cuda_graphs import Replayed, replayed_product
from metarl.envs import EnvConfig
from metarl.envs.grid_maze import GridMazeConfig
from metarl.envs.grid_navi import GridNaviConfig
from metarl.envs.navigation import NavigationConfig
from metarl.experiments.cli import main
from metarl.meta_gradient import AfterAdaptation
from metarl.optimizers import OuterOptimizerConfig
from metarl.protocols import VectorTaskEnv
from metarl.sampler import adaptation_rounds
from metarl.seeding import Streams
from metarl.types import Tasks, Trajectories
from tests.conftest import SMALL_AGENTS, SMALL_ENVS
from tests.precision import Precision

MAZE = "metarl/GridMaze-v0"
TENSOR_ENVS: Mapping[str, EnvConfig] = {
    "metarl/BernoulliBandit-v0": SMALL_ENVS["metarl/BernoulliBandit-v0"],
    "metarl/TabularMDP-v0": SMALL_ENVS["metarl/TabularMDP-v0"],
    "metarl/PointNavigation-v0": SMALL_ENVS["metarl/PointNavigation-v0"],
    "metarl/GridNavi-v0": GridNaviConfig(horizon=6),
    MAZE: GridMazeConfig(horizon=6),
}
TASKS, EPISODES = 4, 3
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class HostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts how often tensors without values are read or copied by the host.

    Without it, on the device ``meta``, either raises. Every question is answered alike.
    """

    def __init__(self, *, answer: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.answer, self.count = answer, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, aten = kwargs or {}, torch.ops.aten
        copied = func is aten._to_copy.default and kwargs.get("device") == torch.device("cpu")
        if func is aten._local_scalar_dense.default or copied:
            (leaf,) = args
            if leaf.is_meta:
                self.count += 1
                dtype = kwargs.get("dtype") or leaf.dtype
                answers = torch.full(leaf.shape, self.answer, dtype=dtype)
                return answers if copied else answers.item()
        return func(*args, **kwargs)


class World(NamedTuple):
    """Tasks, their environment and an agent, all on the device ``meta``."""

    env: VectorTaskEnv
    agent: Any
    tasks: Tasks
    streams: Streams

    def rounds(self, adaptations: int) -> tuple[list[Trajectories], int]:
        """Collect rounds; return them, and how often the host read something."""
        with HostReads(answer=False) as reads:
            walk = adaptation_rounds(
                self.env, self.tasks, self.agent, EPISODES, adaptations, self.streams
            )
            batches = [batch for batch, _ in walk]
        return batches, reads.count


def on_meta(env_name: str, config: EnvConfig, agent_name: str) -> World:
    _, env = envs.build(env_name, config, device="meta")
    # How a maze is drawn goes on by what has been drawn of it.
    drawn_on = "cpu" if env_name == MAZE else "meta"
    distribution, _ = envs.build(env_name, config, device=drawn_on)
    tasks = distribution.sample(TASKS, Streams(0, device=drawn_on))
    assert all(leaf.device.type == drawn_on for leaf in tasks.parameter.values())
    agent = agents.build(agent_name, env.spec, SMALL_AGENTS[agent_name], seed=1, device="meta")
    return World(env, agent, tasks, Streams(0, device="meta"))


@pytest.mark.parametrize("env_name", TENSOR_ENVS)
@pytest.mark.parametrize("agent_name", SMALL_AGENTS)
def test_a_round_and_an_adaptation_stay_on_their_device(env_name: str, agent_name: str) -> None:
    world = on_meta(env_name, TENSOR_ENVS[env_name], agent_name)
    (batch,), reads = world.rounds(0)
    # At a round's end four columns are asked whether all of them is finite, at its start mazes
    # whether they are sound; steps ask nothing.
    assert reads == (7 if env_name == MAZE else 4)
    adapted = world.agent.adapt(world.agent.begin(TASKS, EPISODES), batch)
    for name, leaf in {**batch._asdict(), **adapted}.items():
        assert leaf.device.type == "meta", name


@pytest.mark.parametrize("agent_name", SMALL_AGENTS)
def test_a_meta_update_reads_as_little_back_from_long_episodes(agent_name: str) -> None:
    counts = []
    for horizon in (6, 12):
        config = NavigationConfig(horizon=horizon)
        world = on_meta("metarl/PointNavigation-v0", config, agent_name)
        rounds, reads = world.rounds(2)
        assert reads == 12
        with HostReads(answer=True) as reads_back:
            world.agent.meta_update(rounds)
        counts.append(reads_back.count)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("agent_name", ["maml-trpo", "meta-sgd", "anil", "cavia"])
@pytest.mark.parametrize("env_name", TENSOR_ENVS)
def test_the_products_of_a_meta_update_stay_on_their_device(env_name: str, agent_name: str) -> None:
    world = on_meta(env_name, TENSOR_ENVS[env_name], agent_name)
    agent, ((batch,), _) = world.agent, world.rounds(0)
    lesson: Lesson = prepare(batch, AdvantageConfig())
    rounds = Rounds([lesson], lesson, lesson.mask / 7.0)
    policies = AfterAdaptation(agent.loop, agent.outer.params, rounds)
    theta = trees.flatten(agent.outer.params)
    distribution_, pull, fisher = policies.linearise(theta)
    for result in (*distribution_, *policies.distribution(theta), pull(distribution_)):
        assert result.device.type == "meta"
    assert fisher(theta).shape == theta.shape


def test_off_the_gpu_a_replayed_function_is_called_as_it_is() -> None:
    calls = []

    def double(inputs: Any) -> dict[str, Tensor]:
        calls.append(inputs)
        return {"y": 2.0 * inputs["x"]}

    replayed = Replayed(double)
    assert replayed({"x": torch.ones(2)})["y"].tolist() == [2.0, 2.0]
    assert replayed({"x": torch.zeros(3)})["y"].tolist() == [0.0, 0.0, 0.0]
    assert len(calls) == 2


@needs_gpu
def test_a_replayed_function_follows_its_inputs_and_its_results_stay() -> None:
    replayed = Replayed(lambda inputs: {"y": torch.tanh(inputs["x"]) * inputs["x"]})
    for size in (4, 7, 4):
        inputs = [torch.randn(size, device="cuda") for _ in range(3)]
        results = [replayed({"x": x})["y"] for x in inputs]
        for x, y in zip(inputs, results, strict=True):
            assert torch.equal(y, torch.tanh(x) * x)


@needs_gpu
def test_a_replayed_product_is_that_of_its_matrix() -> None:
    matrix = torch.randn(5, 5, device="cuda")
    product = replayed_product(lambda v: matrix @ v)
    vectors = [torch.randn(5, device="cuda") for _ in range(3)]
    images = [product(v) for v in vectors]
    for v, image in zip(vectors, images, strict=True):
        torch.testing.assert_close(image, matrix @ v)


def steady(config: AgentConfig) -> AgentConfig:
    """Return the same agent with an outer step that does not make much of the last bits.

    With so few episodes the Fisher matrix has directions that no sample knows, and Adam makes
    steps of its full size of gradients near 0.
    """
    if isinstance(config, MamlTrpoConfig | ImamlTrpoConfig | JointConfig):
        return replace(config, trust_region=replace(config.trust_region, cg_damping=1.0))
    if isinstance(config, OuterOptimizerConfig):
        return replace(config, outer_optimizer="sgd")
    return config


@needs_gpu
@pytest.mark.parametrize("env_name", SMALL_ENVS)
@pytest.mark.parametrize("agent_name", SMALL_AGENTS)
def test_a_gpu_agrees_with_the_cpu(env_name: str, agent_name: str) -> None:
    rounds: dict[str, list[Trajectories]] = {}
    weights: dict[str, dict[str, Tensor]] = {}
    for device in ("cpu", "cuda"):
        distribution, env = envs.build(env_name, SMALL_ENVS[env_name], device=device, threads=1)
        config = steady(SMALL_AGENTS[agent_name])
        agent = agents.build(agent_name, env.spec, config, seed=1, device=device)
        streams = Streams(0, device=device)
        tasks = distribution.sample(TASKS, streams)
        walk = adaptation_rounds(env, tasks, agent, EPISODES, 1, streams)
        batches = [batch for batch, _ in walk]
        # Rounding may turn a choice near a boundary: the update is compared on the same batches.
        given = rounds.setdefault("given", [batch._replace() for batch in batches])
        agent.meta_update([Trajectories(*(x.to(device) for x in batch)) for batch in given])
        rounds[device] = batches
        weights[device] = {name: leaf.cpu() for name, leaf in agent.state_dict().items()}
    first, other = rounds["cpu"][0], rounds["cuda"][0]
    assert other.obs.device.type == "cuda"
    torch.testing.assert_close(other.obs[:, :, 0].cpu(), first.obs[:, :, 0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        other.log_prob[:, :, 0].cpu(), first.log_prob[:, :, 0], rtol=1e-4, atol=1e-5
    )
    for name, leaf in weights["cpu"].items():
        torch.testing.assert_close(weights["cuda"][name], leaf, rtol=1e-3, atol=1e-4)


def test_a_run_is_trained_in_full_precision(tmp_path: Path) -> None:
    flags = ("--iterations", "1", "--tasks-per-update", "2", "--evaluate-every", "0")
    with Precision() as seen:
        assert main(["train", "maml-trpo/bandit", "--out", str(tmp_path / "run"), *flags]) == 0
    assert {setting[:2] for setting in seen.settings} == {("highest", False)}
    assert torch.float32 in seen.dtypes
    assert not seen.dtypes & {torch.bfloat16, torch.float16}
