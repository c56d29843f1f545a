"""Bandit references against enumeration, published values, and one another."""

import itertools
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.envs import bandit_ceilings as ceilings
from metarl.envs.bandit_ceilings import Record
from metarl.envs.bandit_tables import bayes_optimal_plan, gittins_indices
from metarl.envs.tabular import BernoulliBanditConfig, Reward
from metarl.seeding import Streams
from metarl.types import Tasks

STREAMS = Streams(11, ("ceilings",))
PLAYED: Mapping[str, ceilings.BanditCeiling] = {
    "best": ceilings.best_arm,
    "random": ceilings.random_arm,
    "Thompson": ceilings.thompson_sampling,
    "UCB1": ceilings.ucb1,
    "Gittins": ceilings.gittins,
    "Bayes": ceilings.bayes_optimal,
}


def record(pulls: list[float], total: list[float]) -> Record:
    """What was seen of one bandit."""
    return Record(torch.tensor([pulls]).double(), torch.tensor([total]).double())


def drawn(num_tasks: int, num_arms: int) -> Tensor:
    return STREAMS.uniform("means", num_tasks, (num_arms,))


def best_value_by_recursion(state: tuple[tuple[int, int], ...], pulls_left: int) -> float:
    """The Bayes-optimal value with (pulls, wins) of each arm, by plain recursion."""
    if not pulls_left:
        return 0.0
    values = []
    for arm, (pulls, wins) in enumerate(state):
        chance = (wins + 1) / (pulls + 2)
        win, loss = (
            best_value_by_recursion(
                (*state[:arm], (pulls + 1, wins + won), *state[arm + 1 :]), pulls_left - 1
            )
            for won in (1, 0)
        )
        values.append(chance * (1 + win) + (1 - chance) * loss)
    return max(values)


def best_value_over_all_rules(num_arms: int, num_pulls: int) -> float:
    """The same, by trying every function from histories of wins and losses to arms."""
    histories = [h for n in range(num_pulls) for h in itertools.product((0, 1), repeat=n)]
    values = []
    for arms in itertools.product(range(num_arms), repeat=len(histories)):
        rule, value = dict(zip(histories, arms, strict=True)), 0.0
        for outcome in itertools.product((0, 1), repeat=num_pulls):
            seen, probability = [(0, 0)] * num_arms, 1.0
            for time, won in enumerate(outcome):
                arm = rule[outcome[:time]]
                pulls, wins = seen[arm]
                chance = (wins + 1) / (pulls + 2)
                probability *= chance if won else 1 - chance
                seen[arm] = (pulls + 1, wins + won)
            value += probability * sum(outcome)
        values.append(value)
    return max(values)


def test_two_pulls_by_hand() -> None:
    # 1/2 at first; then 2/3 after a win, and the other arm's 1/2 after a loss.
    assert bayes_optimal_plan(2, 2).value == pytest.approx(1 / 2 + 1 / 2 * 2 / 3 + 1 / 2 * 1 / 2)
    assert bayes_optimal_plan(1, 2).value == pytest.approx(1.0)


def test_the_optimal_value_is_the_best_over_all_rules() -> None:
    assert bayes_optimal_plan(2, 3).value == pytest.approx(best_value_over_all_rules(2, 3))


@pytest.mark.parametrize(("num_arms", "num_pulls"), [(1, 4), (2, 5), (3, 4), (5, 3)])
def test_the_optimal_value_is_that_of_plain_recursion(num_arms: int, num_pulls: int) -> None:
    value = best_value_by_recursion(((0, 0),) * num_arms, num_pulls)
    assert bayes_optimal_plan(num_arms, num_pulls).value == pytest.approx(value, abs=1e-12)


def test_the_optimal_value_is_the_published_one() -> None:
    # Boyan and Moore 1996, "Learning evaluation functions for large acyclic domains".
    assert bayes_optimal_plan(3, 25).value / 25 == pytest.approx(0.6821, abs=5e-5)


def test_arms_beyond_the_number_of_pulls_change_nothing() -> None:
    assert bayes_optimal_plan(50, 6).value == bayes_optimal_plan(6, 6).value
    assert bayes_optimal_plan(5, 6).value < bayes_optimal_plan(6, 6).value


@pytest.mark.parametrize(("num_arms", "num_pulls"), [(5, 100), (50, 500), (3, 60)])
def test_a_plan_that_is_too_large_is_refused(num_arms: int, num_pulls: int) -> None:
    with pytest.raises(ValueError, match=rf"{num_pulls} pulls of {num_arms} arms is too large.*30"):
        bayes_optimal_plan(num_arms, num_pulls)


@pytest.mark.parametrize("num_arms", [2, 5, 12])
def test_the_plan_earns_its_value_and_more_than_others(num_arms: int) -> None:
    mean = drawn(20_000, num_arms)
    total = {name: f(mean, 8, "bernoulli", STREAMS).double().sum(-1) for name, f in PLAYED.items()}
    error = total["Bayes"].std() / len(mean) ** 0.5
    assert abs(total["Bayes"].mean() - bayes_optimal_plan(num_arms, 8).value) < 4 * error
    assert total["best"].mean() > total["Bayes"].mean() + 10 * error
    for worse in ("random", "Thompson", "UCB1"):
        assert total[worse].mean() < total["Bayes"].mean() - 4 * error
    # With the same noise and the same order of arms, the index is hardly worse.
    assert abs(total["Gittins"].mean() - total["Bayes"].mean()) < 2 * error


def test_gittins_indices_by_hand() -> None:
    indices = gittins_indices(3)
    # With one pull left, the chance of a win.
    chances = torch.tensor([[1 / 2, 0, 0], [1 / 3, 2 / 3, 0], [1 / 4, 2 / 4, 3 / 4]])
    torch.testing.assert_close(indices[0].tril(), chances, atol=1e-5, rtol=0)
    # Go on after wins only: (1/2 + 1/3) / (1 + 1/2), and (1/2 + 1/3 + 1/4) / (1 + 1/2 + 1/3).
    assert float(indices[1][0, 0]) == pytest.approx(5 / 9, abs=1e-5)
    assert float(indices[2][0, 0]) == pytest.approx(13 / 22, abs=1e-5)


@pytest.mark.parametrize(
    ("pulls", "wins", "index"), [(0, 0, 0.7029), (2, 1, 0.6346), (4, 2, 0.6010), (10, 9, 0.8695)]
)
def test_gittins_indices_are_the_published_ones(pulls: int, wins: int, index: float) -> None:
    # Gittins, Glazebrook and Weber 2011, discount 0.9; what lies beyond 90 pulls is worth < 1e-3.
    assert float(gittins_indices(100, 0.9)[89][pulls, wins]) == pytest.approx(index, abs=1e-4)


def test_gittins_indices_grow_with_the_horizon_and_exceed_the_mean() -> None:
    indices = gittins_indices(20)
    for shorter, longer in itertools.pairwise(indices):
        size = len(longer)
        assert (longer >= shorter[:size, :size] - 1e-5).tril().sum() == size * (size + 1) / 2
    assert float(indices[19][0, 0]) > 0.75


def test_gittins_of_two_arms_is_optimal_where_one_can_tell() -> None:
    # After a loss and with one arm untouched, the untouched one; after a win, the same again.
    table = gittins_indices(2)[0]
    assert table[1, 1] > table[0, 0] > table[1, 0]


def test_ucb1_by_hand() -> None:
    # ln 10 = 2.303: bounds 0.5 + sqrt(4.605 / 8) = 1.259 and 0 + sqrt(4.605 / 2) = 1.517.
    seen = record([8, 2], [4, 0])
    assert ceilings.pull_upper_bound(seen, 10, STREAMS).item() == 1
    # With c = 0.87 the bounds are equal at ln t = 2.30: before, the first is greater.
    assert ceilings.pull_upper_bound(seen, 9, STREAMS, 0.87).item() == 0
    assert ceilings.pull_upper_bound(seen, 11, STREAMS, 0.87).item() == 1
    # With c = 0.2: 0.5 + 0.240 = 0.740 and 0.480.
    assert ceilings.pull_upper_bound(seen, 10, STREAMS, 0.2).item() == 0
    assert ceilings.pull_upper_bound(record([8, 0], [8, 0]), 8, STREAMS).item() == 1
    # From the prior with c = 2: 0.5 + sqrt(4.796 / 10) = 1.192 and 0.25 + sqrt(4.796 / 4) = 1.345.
    assert ceilings.pull_upper_bound_from_prior(seen, 10, STREAMS, 2.0).item() == 1
    assert ceilings.pull_upper_bound_from_prior(seen, 10, STREAMS, 0.1).item() == 0


def test_every_pull_has_samples_of_its_own() -> None:
    # Arms that never pay, of 3: the shares of pairs (first pull, second) follow the posterior.
    mean = torch.tensor([[0.0, 1e-9, 2e-9]]).expand(4000, -1)
    pulled = ceilings.thompson_sampling(mean, 2, "bernoulli", STREAMS)
    # Again the same arm: Beta(1, 2) above two uniforms, E B^2 = 1/6.
    again = (pulled[:, 0] == pulled[:, 1]).double().mean()
    assert float(again) == pytest.approx(1 / 6, abs=0.025)


def test_gittins_counts_the_pulls_that_are_left() -> None:
    # An arm after 3 wins in 4 pulls has the chance 2/3 and an untouched one 1/2; the untouched one
    # is worth trying with 40 pulls left, and not with 2.
    table = gittins_indices(45)
    assert table[39][0, 0] > 2 / 3 > table[1][0, 0]
    mean = torch.tensor([[1e-9, 2e-9]]).expand(2000, -1)
    # Nothing pays: with ever fewer pulls left, the rule is that of plain recursion in every state.
    pulled = ceilings.gittins(mean, 5, "bernoulli", STREAMS)
    tables, expected = gittins_indices(5), []
    pulls = [0, 0]
    for left in (5, 4, 3, 2, 1):
        arm = int(tables[left - 1][pulls[1], 0] > tables[left - 1][pulls[0], 0])
        pulls[arm] += 1
        expected.append(arm)
    first = pulled[:, :1]
    assert torch.equal((pulled != first).long(), torch.tensor(expected).expand(2000, -1))


def test_ucb1_pulls_every_arm_once_first() -> None:
    mean = drawn(50, 6)
    pulled = ceilings.ucb1(mean, 6, "gaussian", STREAMS)
    torch.testing.assert_close(pulled.sort().values, mean.sort().values)


def share_of_the_second(seen: Record, rule: ceilings.Rule, number: int = 40_000) -> float:
    many = Record(*(leaf.expand(number, -1) for leaf in seen))
    return float(rule(many, 0, STREAMS).double().mean())


def test_thompson_sampling_pulls_with_the_probability_of_being_best() -> None:
    # U[0, 1] against Beta(2, 1), whose density is 2x: P(second is greater) = 2/3.
    seen = record([0, 1], [0, 1])
    assert share_of_the_second(seen, ceilings.pull_sampled) == pytest.approx(2 / 3, abs=0.01)
    # Against Beta(1, 3), with density 3 (1 - x)^2: its mean, 1/4.
    seen = record([0, 2], [0, 0])
    assert share_of_the_second(seen, ceilings.pull_sampled) == pytest.approx(1 / 4, abs=0.01)
    # Optimistically, U is raised to 1/2, and raising B to 1/4 does not help it:
    # P(B > max(U, 1/2)) = E (B - 1/2)^+ + P(B > 1/2) / 2 = (1/2)^4 / 4 + (1/2)^3 / 2.
    expected = 0.5**4 / 4 + 0.5**3 / 2
    share = share_of_the_second(seen, ceilings.pull_sampled_optimistically)
    assert share == pytest.approx(expected, abs=0.005)


def test_gaussian_thompson_sampling_uses_the_cut_posterior() -> None:
    # One pull that paid 0: N(0, 1) cut to [0, 1] has the mean (phi(0) - phi(1)) / 0.3413 = 0.4598
    # and exceeds U[0, 1] with just that probability.
    rule = ceilings.pull_sampled_normal
    assert share_of_the_second(record([0, 1], [0, 0]), rule) == pytest.approx(0.4598, abs=0.01)
    assert share_of_the_second(record([0, 400], [0, 400 * 0.9]), rule) == pytest.approx(
        0.9, abs=0.01
    )
    # Means of -5 and 10 after 4 pulls: both posteriors are next to an end of [0, 1].
    assert share_of_the_second(record([4, 4], [-20, 40]), rule, 1000) == 1.0
    assert share_of_the_second(record([4, 4], [40, -20]), rule, 1000) == 0.0


@pytest.mark.parametrize("name", PLAYED)
def test_a_block_of_tasks_plays_as_in_the_whole(name: str) -> None:
    mean, play = drawn(5000, 3), PLAYED[name]
    whole = play(mean, 5, "bernoulli", STREAMS)
    assert torch.equal(whole, play(mean, 5, "bernoulli", STREAMS))
    assert torch.equal(whole[4000:], play(mean[4000:], 5, "bernoulli", STREAMS.from_task(4000)))
    assert torch.equal(whole[17:18], play(mean[17:18], 5, "bernoulli", STREAMS.from_task(17)))
    if name not in {"best", "random"}:
        assert not torch.equal(whole, play(mean, 5, "bernoulli", STREAMS.at("other")))


@pytest.mark.parametrize("name", PLAYED)
def test_no_rule_prefers_a_place(name: str) -> None:
    # All arms but one never pay: whichever it is, it is found as often.
    good = torch.eye(4).repeat(2000, 1)
    first = PLAYED[name](good, 3, "bernoulli", STREAMS)[:, 0].view(2000, 4)
    assert (first.mean(0) - (1.0 if name == "best" else 0.25)).abs().max() < 0.05


@pytest.mark.parametrize("reward", ["bernoulli", "gaussian"])
def test_learners_find_the_best_arm(reward: Reward) -> None:
    mean = torch.tensor([[0.1, 0.2, 0.9]]).expand(500, -1)
    names = ["Thompson", "UCB1"] + (["Gittins"] if reward == "bernoulli" else [])
    for name in names:
        pulled = PLAYED[name](mean, 100, reward, STREAMS).mean(0)
        assert pulled[0].mean() < 0.5
        assert pulled[-20:].mean() > (0.8 if name == "Gittins" else 0.6)


@pytest.mark.parametrize("name", ["metarl/BernoulliBandit-v0", "metarl/GaussianBandit-v0"])
def test_episodes_of_the_table_are_pulls_in_a_row(name: str) -> None:
    family = envs.ENVS[name]
    tasks = envs.build(name)[0].held_out(6)
    assert "best arm" in family.ceilings
    for ceiling in family.ceilings.values():
        single = ceiling(family.config(horizon=1), tasks, 6, STREAMS)
        together = ceiling(family.config(horizon=3), tasks, 2, STREAMS)
        assert single.shape == (6, 6)
        torch.testing.assert_close(single.view(6, 2, 3).sum(-1), together)
    best = family.ceilings["best arm"](family.config(horizon=3), tasks, 2, STREAMS)
    torch.testing.assert_close(best[:, 1], 3 * tasks.parameter["reward_mean"].amax((1, 2)))


def test_the_table_refuses_a_plan_that_is_too_large() -> None:
    plan = envs.ENVS["metarl/BernoulliBandit-v0"].ceilings["Bayes-optimal"]
    tasks = Tasks(torch.tensor([-1]), {"reward_mean": torch.rand(1, 1, 5)})
    with pytest.raises(ValueError, match="too large"):
        plan(BernoulliBanditConfig(horizon=100), tasks, 1, STREAMS)


@pytest.mark.slow
def test_the_published_totals_are_met() -> None:
    # Duan et al. 2016, table 1, over 1000 instances; the greatest standard error there is 0.5.
    for num_arms, gittins, greedy in ((5, 78.3, 74.8), (10, 82.8, 77.1)):
        mean = drawn(10_000, num_arms)
        total = PLAYED["Gittins"](mean, 100, "bernoulli", STREAMS).sum(-1).mean()
        assert float(total) == pytest.approx(gittins, abs=1.5)
        pulled = ceilings.play(mean, ceilings.pull_greatest_mean, 100, "bernoulli", STREAMS)
        assert float(pulled.sum(-1).mean()) == pytest.approx(greedy, abs=1.5)
