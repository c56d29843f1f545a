"""Reptile's outer step against its formula, with every learner inside; serial and batched."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metarl import agents, envs
from metarl.adaptation import begin_stacked
from metarl.agents.maml import MamlTrpoConfig
from metarl.agents.reptile import Reptile, ReptileConfig
from metarl.annealing import AnnealedOptimizer
from metarl.checks import InputError
from metarl.evaluation import EvaluationConfig, adaptation_curve
from metarl.experiments.presets import preset
from metarl.inner_learners import begin_learning, learn
from metarl.policies import PolicyConfig
from metarl.sampler import adaptation_rounds
from metarl.seeding import Streams
from metarl.trainer import TrainConfig, meta_train
from metarl.types import Adapted, EnvSpec, Params, Trajectories
from tests.conftest import SMALL_ENVS, far_from_symmetric, random_round

SHAPE = (3, 4, 5)
NET = PolicyConfig(hidden_sizes=(4,), init_std=0.7)
ADAM = ReptileConfig(policy=NET, inner_optimizer="adam", inner_lr=0.05, inner_beta1=0.5)
PPO = replace(ADAM, inner_learner="ppo", inner_epochs=2, inner_minibatches=2)
LEARNERS = [ReptileConfig(policy=NET), ADAM, replace(PPO, inner_beta1=0.0), PPO]


def spec(discrete: bool) -> EnvSpec:
    return EnvSpec("test", 3, 2, discrete, SHAPE[2], False)


def new_agent(discrete: bool, config: ReptileConfig) -> Reptile:
    agent = Reptile(spec(discrete), config, Streams(0))
    agent.outer = AnnealedOptimizer(far_from_symmetric(agent.outer.params), config)
    return agent


def task(batch: Trajectories, number: int) -> Trajectories:
    return Trajectories(*(leaf[number : number + 1] for leaf in batch))


def learned(agent: Reptile, phi: Params, rounds: list[Trajectories]) -> Params:
    """U^k(phi) of one task, by itself."""
    adapted = begin_learning(agent.loop, agent.config, begin_stacked(phi, 1), SHAPE[1])
    for batch in rounds:
        adapted = learn(agent.loop, agent.config, adapted, agent.lesson(batch))
    return {name: adapted[name][0] for name in phi}


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("config", LEARNERS)
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("adaptations", [1, 2])
def test_phi_moves_by_epsilon_towards_the_mean_of_what_each_task_learned(
    discrete: bool, config: ReptileConfig, last: bool, adaptations: int
) -> None:
    agent = new_agent(discrete, replace(config, outer_lr=0.3, learn_from_last_round=last))
    phi = agent.outer.weights()
    rounds = [random_round(SHAPE, spec(discrete), seed) for seed in range(adaptations + 1)]
    used = rounds if last else rounds[:-1]
    ends = [learned(agent, phi, [task(batch, k) for batch in used]) for k in range(SHAPE[0])]
    metrics = agent.meta_update(rounds)
    squares = 0.0
    for name, leaf in phi.items():
        towards = sum(end[name] for end in ends) / len(ends) - leaf
        squares += float((towards**2).sum())
        torch.testing.assert_close(
            agent.outer.params[name], leaf + 0.3 * towards, rtol=1e-9, atol=1e-9
        )
    assert metrics["train/gradient_norm"] == pytest.approx(math.sqrt(squares))


@pytest.mark.parametrize("config", LEARNERS)
def test_a_meta_update_learns_as_the_sampler_did(env_name: str, config: ReptileConfig) -> None:
    config = replace(config, outer_lr=1.0, learn_from_last_round=False)
    distribution, env = envs.build(env_name, SMALL_ENVS[env_name], threads=1)
    agent, streams = Reptile(env.spec, config, Streams(3)), Streams(5)
    tasks, phi = distribution.sample(4, streams), agent.outer.weights()
    *others, (last, adapted) = adaptation_rounds(env, tasks, agent, 4, 2, streams)
    agent.meta_update([*(batch for batch, _ in others), last])
    for name, leaf in agent.outer.params.items():
        torch.testing.assert_close(leaf, adapted[name].mean(0), rtol=1e-5, atol=1e-6)
        assert (leaf - phi[name]).abs().max() > 1e-5, name


def test_one_task_is_the_serial_version() -> None:
    agent = new_agent(False, replace(ADAM, outer_lr=1.0))
    phi = agent.outer.weights()
    rounds = [task(random_round(SHAPE, spec(False), seed), 1) for seed in range(2)]
    end = learned(agent, phi, rounds)
    agent.meta_update(rounds)
    torch.testing.assert_close(agent.outer.params, end)


def test_the_outer_step_follows_its_schedule_through_a_round_trip() -> None:
    config = replace(PPO, outer_lr=0.4, anneal_over=4)
    agent, copy = new_agent(True, config), new_agent(True, config)
    rounds = [random_round(SHAPE, spec(True), seed) for seed in range(2)]
    sizes = [agent.meta_update(rounds)["train/outer_lr"] for _ in range(2)]
    copy.load_state_dict(agent.state_dict())
    assert agent.meta_update(rounds) == copy.meta_update(rounds)
    assert [*sizes, agent.outer.step_size] == pytest.approx([0.4, 0.3, 0.1])
    state, other = agent.state_dict(), copy.state_dict()
    assert all(torch.equal(leaf, other[name]) for name, leaf in state.items())


def test_adapting_changes_nothing_that_it_was_given() -> None:
    agent, batch = new_agent(False, PPO), random_round(SHAPE, spec(False), 0)
    known = agent.adapt(agent.begin(*SHAPE[:2]), batch)
    before = {name: leaf.clone() for name, leaf in known.items()}
    first, second = agent.adapt(known, batch), agent.adapt(known, batch)
    assert all(torch.equal(leaf, before[name]) for name, leaf in known.items())
    assert all(torch.equal(leaf, second[name]) for name, leaf in first.items())


def test_what_is_known_of_a_new_task_tells_none_apart_and_remembers_nothing() -> None:
    known = new_agent(False, PPO).begin(*SHAPE[:2])
    memory = [name for name in known if name.startswith("memory/")]
    assert len(memory) == 2 * len(new_agent(False, PPO).outer.params)
    assert all((leaf == leaf[:1]).all() for leaf in known.values())
    assert not any(known[name].any() for name in memory)


def test_a_round_too_short_for_the_minibatches_is_refused_at_the_start() -> None:
    agent = new_agent(False, PPO)
    agent.begin(3, 2)
    with pytest.raises(InputError, match="inner_minibatches=2 needs as many episodes"):
        agent.begin(3, 1)


def test_a_step_that_is_not_finite_is_left_out_and_counted() -> None:
    agent = new_agent(False, replace(ADAM, anneal_over=3))
    before = agent.state_dict()
    bad = random_round(SHAPE, spec(False), 0)
    bad.reward[0, 0, 0] = math.nan
    assert agent.meta_update([bad, bad])["train/skipped_steps"] == 1.0
    assert all(torch.equal(leaf, before[name]) for name, leaf in agent.state_dict().items())


@pytest.mark.parametrize("env_name", SMALL_ENVS)
def test_serial_training_runs_everywhere(env_name: str) -> None:
    distribution, env = envs.build(env_name, SMALL_ENVS[env_name], threads=1)
    config = replace(PPO, anneal_over=3)
    agent = agents.build("reptile", env.spec, config, seed=1)
    train = TrainConfig(iterations=3, tasks_per_update=1, episodes=3, adaptations=1)
    phi = agent.state_dict()
    steps = list(meta_train(agent, env, distribution, train, Streams(1)))
    assert [step.metrics["train/outer_lr"] for step in steps] == pytest.approx(
        [0.1, 0.2 / 3, 0.1 / 3]
    )
    assert not any(torch.equal(leaf, phi[name]) for name, leaf in agent.state_dict().items())
    scoring = EvaluationConfig(episodes=3, adaptations=2)
    curve = adaptation_curve(agent, env, distribution.held_out(2), scoring, Streams(2)).score
    assert curve.shape == (2, 3)
    assert torch.isfinite(curve).all()


def test_a_task_learns_the_same_alone_and_among_others() -> None:
    distribution, env = envs.build(
        "metarl/PointNavigation-v0", SMALL_ENVS["metarl/PointNavigation-v0"], threads=1
    )
    agent = agents.build("reptile", env.spec, PPO, seed=1)
    tasks, streams = distribution.sample(3, Streams(1)), Streams(2)

    def known(rows: slice) -> Adapted:
        here = streams.from_task(rows.start)
        *_, (_, last) = adaptation_rounds(env, tasks.take(rows), agent, 4, 2, here)
        return last

    whole = known(slice(0, 3))
    for k in range(3):
        alone: dict[str, Tensor] = known(slice(k, k + 1))
        for name, leaf in alone.items():
            torch.testing.assert_close(leaf[0], whole[name][k], rtol=1e-4, atol=1e-6)


def test_first_order_is_refused_and_so_is_a_wrong_schedule() -> None:
    with pytest.raises(InputError, match="first_order must stay off"):
        ReptileConfig(first_order=True)
    with pytest.raises(InputError, match=r"ReptileConfig.outer_lr_final has no effect"):
        ReptileConfig(outer_lr_final=0.05)


@pytest.mark.parametrize("task_name", ["navigation", "half-cheetah-dir"])
def test_fomamls_presets_are_mamls_but_for_the_derivative(task_name: str) -> None:
    sibling, maml = (preset(f"maml-trpo/{task_name}{end}") for end in ("@first-order", ""))
    assert isinstance(sibling.agent, MamlTrpoConfig)
    assert sibling.agent.first_order
    assert isinstance(maml.agent, MamlTrpoConfig)
    same = replace(sibling.agent, first_order=False)
    assert replace(sibling, preset=maml.preset, agent=same) == maml
