"""What holds for every agent in every kind of environment."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import agents, envs, trees
from metarl.agents.maml import MamlTrpoConfig, MamlVpg
from metarl.agents.reptile import ReptileConfig
from metarl.checks import InputError
from metarl.envs.walker2d import Walker2dRandParamsConfig
from metarl.gradient_agent import GradientAgent
from metarl.protocols import Algorithm
from metarl.sampler import adaptation_rounds
from metarl.seeding import Streams
from metarl.types import Trajectories
from tests.conftest import SMALL_AGENTS, World, build_world

TASKS, EPISODES = 4, 5
# Whose meta-update judges adapted policies, as a function of theta: test_reptile has its own test,
# and the meta-updates of the others adapt to nothing.
ADAPTING = [
    name
    for name in SMALL_AGENTS
    if name not in ("reptile", "rl2", "average", "pretrained", "random")
]


def rounds_of(world: World, agent: Algorithm, adaptations: int, seed: int) -> list[Trajectories]:
    streams = Streams(seed)
    tasks = world.distribution.sample(TASKS, streams)
    rounds = adaptation_rounds(world.env, tasks, agent, EPISODES, adaptations, streams)
    return [batch for batch, _ in rounds]


def copy_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: leaf.clone() for name, leaf in tensors.items()}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, leaf in left.items():
        assert torch.equal(leaf, right[name]), name


def test_begin_knows_nothing(world: World) -> None:
    agent = world.new_agent()
    before = copy_of(agent.begin(TASKS, EPISODES))
    rounds_of(world, agent, 2, seed=5)
    assert_same(agent.begin(TASKS, EPISODES), before)
    for name, leaf in before.items():
        assert leaf.shape[0] == TASKS, name
        assert (leaf == leaf[:1]).all(), f"{name} tells tasks apart"


def test_adapt_is_pure(world: World) -> None:
    agent = world.new_agent()
    (batch,) = rounds_of(world, agent, 0, seed=5)
    known, weights, seen = agent.begin(TASKS, EPISODES), agent.state_dict(), batch._asdict()
    known_before, weights_before, seen_before = copy_of(known), copy_of(weights), copy_of(seen)
    first = copy_of(agent.adapt(known, batch))
    assert_same(agent.adapt(known, batch), first)
    assert_same(known, known_before)
    assert_same(agent.state_dict(), weights_before)
    assert_same(seen, seen_before)


def test_adapt_treats_each_task_by_itself(world: World) -> None:
    agent = world.new_agent()
    (batch,) = rounds_of(world, agent, 0, seed=5)
    whole = agent.adapt(agent.begin(TASKS, EPISODES), batch)
    half = Trajectories(*(leaf[2:] for leaf in batch))
    part = agent.adapt(agent.begin(TASKS - 2, EPISODES), half)
    for name, leaf in part.items():
        assert torch.allclose(leaf, whole[name][2:], atol=1e-7), name


@pytest.mark.parametrize("adaptations", [1, 2])
@pytest.mark.parametrize("agent_name", ADAPTING)
def test_a_meta_update_adapts_as_the_sampler_did(world: World, adaptations: int) -> None:
    agent = world.new_agent()
    assert isinstance(agent, GradientAgent)
    experience = agent.experience(rounds_of(world, agent, adaptations, seed=5))
    last, theta = experience.last, trees.flatten(agent.outer.params)
    one_less = experience._replace(lessons=experience.lessons[1:])
    recomputed, other = (
        agent.policies(rounds).distribution(theta).log_prob(last.action)[last.mask]
        for rounds in (experience, one_less)
    )
    recorded = last.log_prob[last.mask]
    torch.testing.assert_close(recomputed, recorded, rtol=0.0, atol=1e-5)
    assert (other - recorded).abs().max() > 1e-2


@pytest.mark.parametrize("adaptations", [1, 2])
@pytest.mark.parametrize("agent_name", ADAPTING)
def test_a_meta_update_starts_at_the_policies_that_acted(world: World, adaptations: int) -> None:
    agent, other = world.new_agent(), world.new_agent()
    assert isinstance(agent, GradientAgent)
    rounds = rounds_of(world, agent, adaptations, seed=5)
    last, weights = agent.experience(rounds)[1:]
    # All ratios are 1, and the mean advantage is 0; of the log-likelihood its own mean is known.
    likelihood = last.log_prob if isinstance(agent, MamlVpg) else torch.ones_like(last.log_prob)
    expected = float((likelihood * last.advantage * weights).sum())
    found = agent.meta_update(rounds)["train/surrogate"]
    one_less = other.meta_update(rounds[1:])["train/surrogate"]
    assert abs(found - expected) < 1e-6
    assert abs(one_less - expected) > 1e-5


@pytest.mark.parametrize("adaptations", [1, 2])
def test_meta_update_trains_every_weight(world: World, adaptations: int) -> None:
    agent = world.new_agent()
    before = copy_of(agent.state_dict())
    for seed in range(3):
        metrics = agent.meta_update(rounds_of(world, agent, adaptations, seed))
        assert all(math.isfinite(value) for value in metrics.values()), metrics
    for name, leaf in agent.state_dict().items():
        assert torch.isfinite(leaf).all(), name
        assert not torch.equal(leaf, before[name]), f"{name} was not trained"


def test_steps_after_the_last_end_teach_nothing(agent_name: str) -> None:
    config = Walker2dRandParamsConfig(horizon=60)
    distribution, env = envs.build("metarl/Walker2dRandParams-v0", config)

    def new_agent() -> Algorithm:
        return agents.build(agent_name, env.spec, SMALL_AGENTS[agent_name], seed=3)

    agent, other = new_agent(), new_agent()
    rounds = rounds_of(World(distribution, env, new_agent), agent, 1, seed=5)
    last = max(int(batch.mask.sum(-1).max()) for batch in rounds)
    assert last < 60, "one never fell"
    before = flat(agent)
    agent.meta_update(rounds)
    other.meta_update([until(batch, last) for batch in rounds])
    # Conjugate gradients in float32 make up to 0.05 of the last bits; other agents next to nothing.
    assert (flat(other) - flat(agent)).norm() <= 0.1 * (flat(agent) - before).norm()


def flat(agent: Algorithm) -> Tensor:
    leaves = [leaf.flatten().double() for leaf in agent.state_dict().values()]
    return torch.cat([torch.zeros(1, dtype=torch.float64), *leaves])


def until(batch: Trajectories, steps: int) -> Trajectories:
    """Cut a round off after so many steps."""
    columns = ("action", "log_prob", "reward", "terminated", "mask")
    cut = {name: getattr(batch, name)[:, :, :steps] for name in columns}
    return batch._replace(obs=batch.obs[:, :, : steps + 1], **cut)


def test_state_round_trips_and_training_goes_on_the_same(world: World) -> None:
    agent, copy = world.new_agent(), world.new_agent()
    agent.meta_update(rounds_of(world, agent, 1, seed=1))
    copy.load_state_dict(copy_of(agent.state_dict()))
    rounds = rounds_of(world, agent, 1, seed=2)
    assert agent.meta_update(rounds) == copy.meta_update(rounds)
    assert_same(agent.state_dict(), copy.state_dict())


def test_adam_remembers_across_a_round_trip() -> None:
    world = build_world("reptile", "metarl/BernoulliBandit-v0")
    config = ReptileConfig(outer_optimizer="adam", outer_lr=1e-3)
    agent, copy = (agents.build("reptile", world.env.spec, config) for _ in range(2))
    for seed in range(2):
        agent.meta_update(rounds_of(world, agent, 1, seed))
    copy.load_state_dict(copy_of(agent.state_dict()))
    rounds = rounds_of(world, agent, 1, seed=7)
    agent.meta_update(rounds)
    copy.meta_update(rounds)
    assert_same(agent.state_dict(), copy.state_dict())


def test_state_of_another_shape_is_refused_by_name() -> None:
    world = build_world("maml-trpo", "metarl/BernoulliBandit-v0")
    agent = world.new_agent()
    state = agent.state_dict()
    with pytest.raises(ValueError, match=r"layer0.bias.*\[8\].*\[9\]"):
        agent.load_state_dict(state | {"layer0.bias": torch.zeros(9)})
    with pytest.raises(ValueError, match=r"extra.*absent"):
        agent.load_state_dict(state | {"extra": torch.zeros(1)})


def test_random_takes_no_weights() -> None:
    world = build_world("random", "metarl/BernoulliBandit-v0")
    with pytest.raises(InputError, match=r"RandomAgent has no weights, got \['w'\]"):
        world.new_agent().load_state_dict({"w": torch.zeros(1)})


def test_meta_learners_start_from_the_seed() -> None:
    world = build_world("maml-trpo", "metarl/PointNavigation-v0")
    spec, config = world.env.spec, SMALL_AGENTS["maml-trpo"]
    weights = [
        agents.build("maml-trpo", spec, config, seed=seed).state_dict() for seed in (1, 1, 2)
    ]
    assert_same(weights[0], weights[1])
    assert not torch.equal(weights[0]["layer0.weight"], weights[2]["layer0.weight"])


def test_unknown_agent_and_wrong_config() -> None:
    spec = build_world("random", "metarl/BernoulliBandit-v0").env.spec
    with pytest.raises(InputError, match="did you mean 'maml-trpo'"):
        agents.build("maml-tropo", spec)
    with pytest.raises(TypeError, match="MamlTrpoConfig"):
        agents.build("maml-trpo", spec, ReptileConfig())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inner_lr", -0.1),
        ("inner_lr", math.nan),
        ("discount", 1.1),
        ("gae_lambda", math.inf),
        ("inner_objective", "ratios"),
        ("baseline_ridge", 0),
    ],
)
def test_bad_values_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"MamlTrpoConfig.{field}"):
        MamlTrpoConfig(**{field: value})
