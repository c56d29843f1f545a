"""PPO over trials: its step against finite differences, its minibatches, its values."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metarl import trees
from metarl.checks import InputError
from metarl.distributions import Distribution
from metarl.objectives import clipped
from metarl.optimizers import MetaOptimizer
from metarl.policies import PolicyConfig, build_policy
from metarl.ppo import PpoConfig, improve
from metarl.processes import ALONE, Processes
from metarl.recurrent import RecurrentActorCritic, gru_step
from metarl.seeding import Streams
from metarl.trial_targets import Samples, Spread, gather, trial_advantages
from metarl.types import EnvSpec, Metrics, Params
from tests.conftest import far_from_symmetric

N, L, X, H, A = 5, 4, 3, 3, 2
MASK = torch.arange(L) < torch.tensor([4, 2, 0, 3, 1])[:, None]
CONFIG = PpoConfig(
    epochs=1, minibatches=1, clip=0.3, entropy_coefficient=0.07, value_coefficient=0.4
)
LONG = 1e6  # a norm that no gradient reaches


@pytest.mark.parametrize("hidden", [(), (5, 4)])
def test_values_say_the_same_when_their_spread_changes(hidden: tuple[int, ...]) -> None:
    setting = Setting(False, hidden)
    old, new = (
        Spread(torch.tensor(mean, dtype=torch.float64), torch.tensor(size, dtype=torch.float64))
        for mean, size in ((-3.0, 2.0), (40.0, 0.5))
    )
    changed = setting.network.with_values(setting.params, *old.change_to(new))
    policies, values = zip(
        *(setting.network.unroll(params, setting.x) for params in (setting.params, changed)),
        strict=True,
    )
    torch.testing.assert_close(new.restore(values[1]), old.restore(values[0]))
    assert (values[1] - values[0]).abs().min() > 1.0
    for before, after in zip(*policies, strict=True):
        assert torch.equal(before, after)


def test_without_rewards_the_value_comes_to_rest() -> None:
    """Targets are what it said itself: its gradient must fade with it, and not fill the clip."""
    setting, norms = Setting(False), []
    spread = Spread(torch.tensor(0.0), torch.tensor(1.0))
    config = replace(CONFIG, entropy_coefficient=0.0, max_gradient_norm=LONG)
    optimizer = MetaOptimizer(setting.params, "adam", 3e-2)
    for update in range(40):
        with torch.no_grad():
            distribution, output = setting.network.unroll(optimizer.params, setting.x)
        value, old = spread.restore(output), spread
        advantage, target = trial_advantages(torch.zeros(N, L), value, MASK, 0.99, 0.95)
        log_prob = distribution.log_prob(setting.samples.action)
        estimates = torch.zeros_like(advantage), target
        samples, spread = gather(setting.samples.action, log_prob, estimates, MASK, ALONE)
        change = old.change_to(spread)
        optimizer.overwrite(setting.network.with_values(optimizer.params, *change))
        metrics = improve(optimizer, setting.judge, samples, config, Streams(4, (update,)), ALONE)
        norms.append(metrics["train/gradient_norm"])
    assert norms[-1] < 0.5


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.1, 2.0, 2.2),
        (1.5, 2.0, 2.4),  # clipped: nothing more to earn
        (1.5, -2.0, -3.0),  # not clipped: the damage counts in full
        (0.5, 2.0, 1.0),
        (0.5, -2.0, -1.6),
        (0.9, -2.0, -1.8),
    ],
)
def test_the_clipped_objective(ratio: float, advantage: float, expected: float) -> None:
    result = clipped(torch.tensor(ratio), torch.tensor(advantage), 0.2)
    assert float(result) == pytest.approx(expected)


class Setting:
    """A small recurrent network in float64, and random samples that it did not quite draw."""

    def __init__(self, discrete: bool, hidden: tuple[int, ...] = ()) -> None:
        generator = torch.Generator().manual_seed(3)

        def randn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).double()

        spec = EnvSpec("test", H, A, discrete, L, False)
        self.network = RecurrentActorCritic(
            X, H, build_policy(spec, PolicyConfig(hidden_sizes=hidden, init_std=0.8))
        )
        self.params = far_from_symmetric(self.network.init(Streams(1)))
        self.x = randn(N, L, X)
        choice = torch.randint(A, (N, L), generator=generator)
        action = choice if discrete else randn(N, L, A)
        with torch.no_grad():
            log_prob = self.network.unroll(self.params, self.x)[0].log_prob(action)
        # What stands off the mask must not matter, however wild.
        old = torch.where(MASK, log_prob + 0.4 * randn(N, L), -1e4)
        estimates = randn(N, L), 7.0 + 5.0 * randn(N, L)
        self.samples, _ = gather(action, old, estimates, MASK, ALONE)
        self.seen: list[list[int]] = []

    def judge(self, params: Params, rows: Tensor) -> tuple[Distribution, Tensor]:
        self.seen.append(rows.tolist())
        return self.network.unroll(params, self.x[rows])

    def improve(
        self, config: PpoConfig, step: float, update: int = 0, processes: Processes = ALONE
    ) -> tuple[Params, Metrics]:
        optimizer = MetaOptimizer(self.params, "sgd", step)
        streams = Streams(4, ("minibatches", update))
        metrics = improve(optimizer, self.judge, self.samples, config, streams, processes)
        return optimizer.weights(), metrics

    def value(self, params: Params, memory: Tensor) -> Tensor:
        if "value.layer1.weight" in params:
            memory = (memory @ params["value.layer0.weight"] + params["value.layer0.bias"]).tanh()
            return memory @ params["value.layer1.weight"][:, 0] + params["value.layer1.bias"][0]
        return memory @ params["value.layer0.weight"][:, 0] + params["value.layer0.bias"][0]

    def loss(self, params: Params) -> float:
        """Step by step, as the docstring of the agent writes it."""
        total, steps, samples = 0.0, 0, self.samples
        gru = {name[4:]: leaf for name, leaf in params.items() if name.startswith("gru.")}
        head = {name[7:]: leaf for name, leaf in params.items() if name.startswith("policy.")}
        for trial in range(N):
            memory = self.x.new_zeros(1, H)
            for time in range(L):
                if not MASK[trial, time]:
                    continue
                memory = gru_step(gru, self.x[trial, time][None], memory)
                distribution = self.network.policy.distribution(head, memory[0])
                value = float(self.value(params, memory[0]))
                log_prob = distribution.log_prob(samples.action[trial, time])
                ratio = math.exp(float(log_prob - samples.log_prob[trial, time]))
                advantage = float(samples.advantage[trial, time])
                held = min(max(ratio, 0.7), 1.3)
                total -= min(ratio * advantage, held * advantage)
                total -= 0.07 * float(distribution.entropy())
                error = value - float(samples.target[trial, time])
                total += 0.4 * error**2
                steps += 1
        return total / steps


@pytest.mark.parametrize(("discrete", "hidden"), [(False, ()), (True, ()), (True, (4,))])
def test_a_step_goes_down_the_loss_by_finite_differences(
    discrete: bool, hidden: tuple[int, ...]
) -> None:
    setting = Setting(discrete, hidden)
    config = replace(CONFIG, max_gradient_norm=LONG)
    moved, metrics = setting.improve(config, step=0.5)
    flat = trees.flatten(setting.params)
    gradient = torch.zeros_like(flat)
    for place in range(len(flat)):
        change = torch.zeros_like(flat)
        change[place] = 1e-6
        losses = [
            setting.loss(trees.unflatten(flat + sign * change, setting.params)) for sign in (1, -1)
        ]
        gradient[place] = (losses[0] - losses[1]) / 2e-6
    torch.testing.assert_close((flat - trees.flatten(moved)) / 0.5, gradient, rtol=1e-5, atol=1e-7)
    assert metrics["train/gradient_norm"] == pytest.approx(float(gradient.norm()), rel=1e-5)
    assert 0.2 < metrics["train/clip_fraction"] < 0.8


def test_a_long_gradient_is_scaled_down_and_a_short_one_is_not() -> None:
    setting = Setting(True)
    start = trees.flatten(setting.params)
    steps = []
    for norm in (LONG, 0.01):
        moved, _ = setting.improve(replace(CONFIG, max_gradient_norm=norm), step=1.0)
        steps.append(trees.flatten(moved) - start)
    assert float(steps[1].norm()) == pytest.approx(0.01)
    torch.testing.assert_close(steps[1] / 0.01, steps[0] / steps[0].norm())
    assert steps[0].norm() > 0.02


def test_every_pass_takes_each_trial_once_in_an_order_of_its_own() -> None:
    orders = []
    for update in (0, 0, 1):
        setting = Setting(False)
        setting.improve(replace(CONFIG, epochs=3, minibatches=2), 0.1, update)
        assert [len(rows) for rows in setting.seen] == [3, 2] * 3
        passes = [setting.seen[i] + setting.seen[i + 1] for i in (0, 2, 4)]
        assert all(sorted(rows) == list(range(N)) for rows in passes)
        assert passes[0] != passes[1]
        orders.append(passes)
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_more_minibatches_than_trials_are_refused() -> None:
    setting = Setting(False)
    setting.improve(replace(CONFIG, minibatches=N), 0.1)
    assert [len(rows) for rows in setting.seen] == [1] * N
    with pytest.raises(InputError, match=rf"minibatches={N + 1} needs as many trials.*got {N}"):
        setting.improve(replace(CONFIG, minibatches=N + 1), 0.1)
    assert len(setting.seen) == N


def test_one_step_of_a_pass_weighs_its_steps_alone() -> None:
    """A minibatch is a mean over its own steps: by hand, the same as a batch of those trials."""
    setting = Setting(False)
    config = replace(CONFIG, max_gradient_norm=LONG, minibatches=2)
    moved, _ = setting.improve(config, 0.1)
    params = setting.params
    for rows in setting.seen[:2]:
        alone = Setting(False)
        chosen = torch.tensor(rows)
        alone.params, alone.x = params, alone.x[chosen]
        alone.samples = alone.samples.take(chosen)
        params, _ = alone.improve(replace(config, minibatches=1), 0.1)
    torch.testing.assert_close(trees.flatten(moved), trees.flatten(params))


def test_trials_without_a_step_change_nothing() -> None:
    setting = Setting(False)
    empty = torch.zeros_like(MASK)
    setting.samples = Samples(*setting.samples[:-1], empty)
    moved, metrics = setting.improve(CONFIG, 0.1)
    assert torch.equal(trees.flatten(moved), trees.flatten(setting.params))
    assert all(math.isfinite(value) for value in metrics.values())
