"""Devices: nothing hidden goes through the host; a GPU, where there is one, agrees with the CPU."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import agents, envs, trees
from metarl.adaptation import AdvantageConfig, Lesson, Rounds, prepare
from metarl.cuda_graphs import Replayed, replayed_product
from metarl.meta_gradient import AfterAdaptation
from metarl.policies import PolicyConfig, build_policy
from metarl.protocols import Algorithm
from metarl.sampler import action_noise, adaptation_rounds
from metarl.seeding import Streams
from metarl.types import Tasks, Trajectories
from tests.conftest import SMALL_AGENTS, SMALL_ENVS

TENSOR_ENVS = [name for name in SMALL_ENVS if "Cheetah" not in name]
TASKS, EPISODES = 4, 3
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def on_meta(env_name: str, agent: Algorithm, tasks: Tasks, streams: Streams) -> Trajectories:
    """One round of tensors without values: whatever reads one, or leaves the device, raises."""
    _, env = envs.build(env_name, SMALL_ENVS[env_name], device="meta")
    adapted = agent.begin(TASKS, EPISODES)
    obs = env.reset(tasks, EPISODES, streams)
    noise = action_noise(env.spec, TASKS, EPISODES, streams)
    running = torch.ones(TASKS, EPISODES, dtype=torch.bool, device="meta")
    seen, steps = [obs], []
    for time in range(env.spec.horizon):
        acted = agent.act(adapted, seen[-1], noise[:, :, time])
        step = env.step(acted.action, running)
        seen.append(step.obs)
        steps.append((acted.action, acted.log_prob, step.reward, step.terminated, running))
        running = running & ~step.terminated
    columns: list[Tensor] = [torch.stack(column, 2) for column in zip(*steps, strict=True)]
    action, log_prob, reward, terminated, mask = columns
    success = torch.full_like(running, -1, dtype=torch.int8)
    obs = torch.stack(seen, 2)
    return Trajectories(
        tasks.task_id, obs, action, log_prob, reward, terminated, mask, ~running, success
    )


@pytest.mark.parametrize("env_name", TENSOR_ENVS)
@pytest.mark.parametrize("agent_name", SMALL_AGENTS)
def test_a_round_and_an_adaptation_stay_on_their_device(env_name: str, agent_name: str) -> None:
    distribution, env = envs.build(env_name, SMALL_ENVS[env_name], device="meta")
    agent = agents.build(agent_name, env.spec, SMALL_AGENTS[agent_name], seed=1, device="meta")
    streams = Streams(0, device="meta")
    tasks = distribution.sample(TASKS, streams)
    batch = on_meta(env_name, agent, tasks, streams)
    adapted = agent.adapt(agent.begin(TASKS, EPISODES), batch)
    for name, leaf in {**batch._asdict(), **adapted, **tasks.parameter}.items():
        assert leaf.device.type == "meta", name


@pytest.mark.parametrize("agent_name", ["maml-trpo", "meta-sgd", "anil", "cavia"])
@pytest.mark.parametrize("env_name", TENSOR_ENVS)
def test_the_products_of_a_meta_update_stay_on_their_device(env_name: str, agent_name: str) -> None:
    distribution, env = envs.build(env_name, SMALL_ENVS[env_name], device="meta")
    agent: Any = agents.build(agent_name, env.spec, seed=1, device="meta")
    streams = Streams(0, device="meta")
    batch = on_meta(env_name, agent, distribution.sample(TASKS, streams), streams)
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


@needs_gpu
@pytest.mark.parametrize("env_name", SMALL_ENVS)
@pytest.mark.parametrize("agent_name", SMALL_AGENTS)
def test_a_gpu_agrees_with_the_cpu(env_name: str, agent_name: str) -> None:
    rounds: dict[str, list[Trajectories]] = {}
    weights: dict[str, dict[str, Tensor]] = {}
    for device in ("cpu", "cuda"):
        distribution, env = envs.build(env_name, SMALL_ENVS[env_name], device=device, threads=1)
        config = SMALL_AGENTS[agent_name]
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


@needs_gpu
def test_precision_is_full_by_default() -> None:
    _, env = envs.build("metarl/PointNavigation-v0", device="cuda")
    build_policy(env.spec, replace(PolicyConfig(), hidden_sizes=(8,)))
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
