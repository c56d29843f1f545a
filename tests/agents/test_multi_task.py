"""Joint training against the pooled objective written out, task by task and by plain autograd."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from metarl import trees
from metarl.adaptation import AdvantageConfig
from metarl.agents.maml import MamlTrpo, MamlTrpoConfig
from metarl.agents.multi_task import Average, AverageConfig, Pretrained, PretrainedConfig
from metarl.baselines import linear_values
from metarl.checks import InputError
from metarl.distributions import Distribution
from metarl.linearisation import Term
from metarl.policies import PolicyConfig
from metarl.returns import generalised_advantages
from metarl.seeding import Streams
from metarl.trust_region import TrustRegionConfig, trust_region_step
from metarl.types import EnvSpec, Trajectories
from tests.conftest import ByAutograd, far_from_symmetric, random_round

SHAPE = (4, 3, 5)
NET = PolicyConfig(hidden_sizes=(5, 4), init_std=0.7)
REGION = TrustRegionConfig(cg_damping=0.1, cg_iterations=6)
ADVANTAGES = AdvantageConfig(discount=0.9, gae_lambda=0.8)


def spec(discrete: bool) -> EnvSpec:
    return EnvSpec("test", 3, 3, discrete, SHAPE[2], False)


def staked_round(discrete: bool, seed: int) -> Trajectories:
    """One round in which tasks differ in length, and more is at stake in the later ones."""
    batch = random_round(SHAPE, spec(discrete), seed)
    stakes = torch.tensor([0.1, 1.0, 2.0, 5.0], dtype=torch.float64)[:, None, None]
    return batch._replace(reward=stakes * batch.reward)


def new_agent(kind: str, discrete: bool) -> Average | Pretrained:
    agent: Average | Pretrained
    if kind == "average":
        average = AverageConfig(discount=0.9, gae_lambda=0.8, policy=NET, trust_region=REGION)
        agent = Average(spec(discrete), average, Streams(0))
    else:
        config = PretrainedConfig(
            discount=0.9, gae_lambda=0.8, inner_lr=0.2, policy=NET, trust_region=REGION
        )
        agent = Pretrained(spec(discrete), config, Streams(0))
    agent.outer.params = far_from_symmetric(agent.outer.params)
    return agent


def plain_step(agent: Average | Pretrained, rounds: Sequence[Trajectories]) -> Tensor:
    """Return theta after one TRPO step on all steps of all tasks, laid out as one flat batch."""
    values = []
    for task in range(SHAPE[0]):
        own = [Trajectories(*(leaf[task : task + 1] for leaf in batch)) for batch in rounds]
        task_id, *_ = own[0]
        joined = zip(*(batch[1:] for batch in own), strict=True)
        one = Trajectories(task_id, *(torch.cat(leaves, 1) for leaves in joined))
        value = linear_values(one, ADVANTAGES.discount, ADVANTAGES.baseline_ridge)
        gae = (ADVANTAGES.discount, ADVANTAGES.gae_lambda)
        advantage = generalised_advantages(one.reward, value, one.terminated, one.mask, *gae)
        kept = one.mask
        values.append([x[kept] for x in (one.obs[:, :, :-1], one.action, one.log_prob, advantage)])
    # Every step stands in a row of its own.
    columns = (torch.cat(part)[:, None] for part in zip(*values, strict=True))
    obs, action, log_prob, advantage = columns
    advantage = (advantage - advantage.mean()) / advantage.std(correction=0)
    like = dict(agent.outer.params)

    def after(theta: Tensor) -> Distribution:
        return agent.loop.policy.distribution(trees.unflatten(theta, like), obs)

    def surrogate(new: Distribution) -> Tensor:
        return (torch.exp(new.log_prob(action) - log_prob) * advantage).mean()

    weights = torch.full((len(obs), 1), 1.0 / len(obs), dtype=torch.float64)
    terms = [Term(ByAutograd(after, weights), surrogate)]
    return trust_region_step(trees.flatten(like), terms, REGION)[0]


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize(("kind", "rounds_used"), [("average", 2), ("pretrained", 1)])
def test_a_meta_update_is_a_step_on_the_pooled_steps(
    kind: str, rounds_used: int, discrete: bool
) -> None:
    agent = new_agent(kind, discrete)
    rounds = [staked_round(discrete, seed) for seed in range(2)]
    expected = plain_step(agent, rounds[:rounds_used])
    metrics = agent.meta_update(rounds)
    assert metrics["train/accepted"] == 1.0
    torch.testing.assert_close(trees.flatten(agent.outer.params), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("discrete", [False, True])
def test_pretrained_is_fine_tuned_by_mamls_inner_loop(discrete: bool) -> None:
    agent = new_agent("pretrained", discrete)
    config = MamlTrpoConfig(discount=0.9, gae_lambda=0.8, inner_lr=0.2, policy=NET)
    maml = MamlTrpo(spec(discrete), config, Streams(0))
    maml.outer.params = dict(agent.outer.params)
    adapted, expected = agent.begin(4, 3), maml.begin(4, 3)
    for seed in range(2):
        batch = staked_round(discrete, seed)
        adapted, expected = agent.adapt(adapted, batch), maml.adapt(expected, batch)
    for name, leaf in expected.items():
        torch.testing.assert_close(adapted[name], leaf)
    assert not torch.equal(adapted["layer0.weight"][0], agent.outer.params["layer0.weight"])


def test_average_acts_as_if_it_had_seen_nothing() -> None:
    agent = new_agent("average", discrete=False)
    known = agent.begin(4, 3)
    after = agent.adapt(known, staked_round(False, 0))
    assert all(torch.equal(after[name], leaf) for name, leaf in known.items())


def test_an_option_without_meaning_is_refused() -> None:
    with pytest.raises(InputError, match=r"PretrainedConfig\.first_order must stay off"):
        PretrainedConfig(first_order=True)
    with pytest.raises(InputError, match=r"PretrainedConfig\.inner_lr"):
        PretrainedConfig(inner_lr=-1.0)
    with pytest.raises(InputError, match=r"PretrainedConfig\.discount"):
        PretrainedConfig(discount=2.0)
