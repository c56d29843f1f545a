"""Bias and variance of the inner objectives' Hessians and meta-gradients, as JSON and a figure.

    python -m metarl.experiments.estimators --out results/estimators

The world has two states, two actions and a few steps, so that the return J(theta) of a softmax
policy and its derivatives are exact. Many replicates draw E episodes each; every estimator makes of
a replicate a Hessian H of J and a meta-gradient (I + alpha H) grad J(theta + alpha g), in which the
last factor is exact: what is compared is the adaptation. J is the undiscounted return per step, and
the baseline of advantages the exact value of time and state. docs/estimators.md reads the result.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
import tyro
from torch import Tensor
from torch.func import grad, hessian, jacrev, vmap

from metarl.checks import COUNT, check_fields
from metarl.experiments.panels import Panel, panels_figure
from metarl.objectives import (
    dice,
    dice_of_rewards,
    gradient_control_variate,
    log_likelihood,
    ratio,
    sampling_credit,
)
from metarl.seeding import Streams

HORIZON, ALPHA = 5, 2.0
EPISODES = (10, 30, 100, 300, 1000)
START = torch.tensor([0.5, 0.5], dtype=torch.float64)
MOVE = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]]], dtype=torch.float64)
"""[state, action, next state]: the second action leads to the second state."""
PAY = torch.tensor([[1.0, 0.0], [0.5, 2.0]], dtype=torch.float64)
"""[state, action]: and pays there only."""
THETA = torch.tensor([0.5, 0.0, 0.0, -0.5], dtype=torch.float64)
"""Logits [state, action], laid end to end."""

STEPS_AT_ONCE = 2**18
LABELS = {
    "bias": "bias / norm of the exact one",
    "relative standard deviation": "standard deviation / norm",
    "cosine": "mean cosine to the exact one",
}
"""What is measured, and how a panel calls it."""
E_MAML = "log-likelihood + sampling credit (E-MAML)"


class Batch(NamedTuple):
    """What E episodes [E, T] of each of K replicates, [K, E, T], tell."""

    state: Tensor
    action: Tensor
    reward: Tensor
    value: Tensor
    """V_t(s_t), exact."""
    advantage: Tensor
    """Reward to go, less that value."""


Surrogate: TypeAlias = Callable[[Tensor, Tensor, Batch], Tensor]
"""(log_prob [E, T], old_log_prob [E, T], batch) to a scalar that is to be raised."""


@dataclass(frozen=True, kw_only=True)
class EstimatorsRequest:
    """What to compute, and where to put it."""

    out: Path
    """Folder of ``estimators.json`` and ``estimators.png``."""
    trajectories: int = 400_000
    """Episodes for each point: they make more replicates of few episodes, or fewer of many."""
    seed: int = 0
    """Of the streams."""

    def __post_init__(self) -> None:
        check_fields(self, {"trajectories": COUNT})


def expected_return(theta: Tensor) -> Tensor:
    """Return J(theta), the return per step."""
    policy, occupied, total = theta.view(2, 2).softmax(-1), START, theta.new_zeros(())
    for _ in range(HORIZON):
        total = total + (occupied[:, None] * policy * PAY).sum()
        occupied = torch.einsum("s,sa,sab->b", occupied, policy, MOVE)
    return total / HORIZON


def state_values(theta: Tensor) -> Tensor:
    """Return V_t(s), the return from step t on, [T, S]."""
    policy, rows = theta.view(2, 2).softmax(-1), [torch.zeros_like(START)]
    for _ in range(HORIZON):
        rows.append((policy * (PAY + MOVE @ rows[-1])).sum(-1))
    return torch.stack(rows[:0:-1])


def draw(theta: Tensor, replicates: int, episodes: int, streams: Streams) -> Batch:
    """Draw E episodes for each of K replicates under a softmax policy."""
    noise = streams.uniform("choices", replicates, (2 * HORIZON, episodes)).double()
    policy, states, actions = theta.view(2, 2).softmax(-1), [], []
    state = (noise[:, 0] >= START[0]).long()
    for t in range(HORIZON):
        action = (noise[:, 2 * t + 1] >= policy[state, 0]).long()
        states.append(state)
        actions.append(action)
        if t + 1 < HORIZON:
            state = (noise[:, 2 * t + 2] >= MOVE[state, action, 0]).long()
    state, action = torch.stack(states, -1), torch.stack(actions, -1)
    reward = PAY[state, action]
    value = state_values(theta)[torch.arange(HORIZON), state]
    to_go = reward.flip(-1).cumsum(-1).flip(-1)
    return Batch(state, action, reward, value, to_go - value)


def _log_prob(theta: Tensor, batch: Batch) -> Tensor:
    return theta.view(2, 2).log_softmax(-1)[batch.state, batch.action]


def _all(batch: Batch) -> Tensor:
    return torch.ones_like(batch.reward, dtype=torch.bool)


def _log_likelihood(log_prob: Tensor, old: Tensor, batch: Batch) -> Tensor:
    return log_likelihood(log_prob, old, batch.advantage, _all(batch))


def _ratio(log_prob: Tensor, old: Tensor, batch: Batch) -> Tensor:
    return ratio(log_prob, old, batch.advantage, _all(batch))


def _dice_of_rewards(log_prob: Tensor, old: Tensor, batch: Batch) -> Tensor:
    return dice_of_rewards(log_prob, old, batch.reward, _all(batch))


def _dice_with_first_baseline(log_prob: Tensor, old: Tensor, batch: Batch) -> Tensor:
    variate = gradient_control_variate(log_prob, old, batch.value, _all(batch))
    return _dice_of_rewards(log_prob, old, batch) + variate


def _dice(log_prob: Tensor, old: Tensor, batch: Batch) -> Tensor:
    return dice(log_prob, old, batch.advantage, _all(batch))


SURROGATES: Mapping[str, Surrogate] = {
    "log-likelihood (MAML)": _log_likelihood,
    "ratio (LVC)": _ratio,
    "DiCE of rewards": _dice_of_rewards,
    "DiCE of rewards, first-order baseline": _dice_with_first_baseline,
    "DiCE of advantages (TMAML)": _dice,
}


def derivatives(surrogate: Surrogate, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return gradients [K, 4] and Hessians [K, 4, 4] of a surrogate where the policy acted."""

    def of_one(batch: Batch) -> tuple[Tensor, Tensor]:
        old = _log_prob(THETA, batch)

        def value(theta: Tensor) -> Tensor:
            return surrogate(_log_prob(theta, batch), old, batch)

        return jacrev(value)(THETA), hessian(value)(THETA)

    found: tuple[Tensor, Tensor] = vmap(of_one, chunk_size=_chunk(batch))(batch)
    return found


def credit_gradients(batch: Batch, adapted_return: Tensor) -> Tensor:
    """Return the gradients [K, 4] of the sampling credit; replicates stand for other tasks."""
    number = len(adapted_return)
    others = (adapted_return.sum() - adapted_return) / (number - 1)

    def of_one(batch: Batch, credit: Tensor) -> Tensor:
        old = _log_prob(THETA, batch)

        def value(theta: Tensor) -> Tensor:
            return sampling_credit(_log_prob(theta, batch), old, _all(batch), credit)

        slope: Tensor = jacrev(value)(THETA)
        return slope

    found: Tensor = vmap(of_one, chunk_size=_chunk(batch))(batch, adapted_return - others)
    return found


def _chunk(batch: Batch) -> int:
    return max(1, STEPS_AT_ONCE // batch.reward[0].numel())


def meta_gradients(gradient: Tensor, curvature: Tensor) -> tuple[Tensor, Tensor]:
    """Return (I + alpha H) grad J(theta + alpha g), [K, 4], and J(theta + alpha g), [K]."""
    adapted = THETA + ALPHA * gradient
    slope = vmap(grad(expected_return))(adapted)
    through = slope + ALPHA * torch.einsum("kij,kj->ki", curvature, slope)
    return through, vmap(expected_return)(adapted)


def summary(found: Tensor, exact: Tensor) -> dict[str, float]:
    """Compare estimates [K, ...] with the exact value, in units of its norm."""
    found, exact = found.flatten(1), exact.flatten()
    mean, norm = found.mean(0), exact.norm()
    spread = float((found - mean).square().sum(1).mean().sqrt() / norm)
    cosine = torch.nn.functional.cosine_similarity(found, exact[None], dim=1).mean()
    numbers = {
        "bias": float((mean - exact).norm() / norm),
        "error of bias": spread / len(found) ** 0.5,
        "relative standard deviation": spread,
        "cosine": float(cosine),
    }
    return {name: float(f"{value:.4g}") for name, value in numbers.items()}


def rows_at(episodes: int, request: EstimatorsRequest) -> list[dict[str, Any]]:
    """Measure every estimator with batches of E episodes."""
    replicates = max(2, request.trajectories // episodes)
    streams = Streams(request.seed, ("estimators", episodes))
    batch = draw(THETA, replicates, episodes, streams)
    exact_curvature = hessian(expected_return)(THETA)
    exact = grad(lambda x: expected_return(x + ALPHA * grad(expected_return)(x)))(THETA)
    rows: list[dict[str, Any]] = []

    def note(quantity: str, name: str, found: Tensor, target: Tensor) -> None:
        row = {"quantity": quantity, "estimator": name, "episodes": episodes}
        rows.append(row | {"replicates": replicates} | summary(found, target))

    for name, surrogate in SURROGATES.items():
        gradient, curvature = derivatives(surrogate, batch)
        through, adapted_return = meta_gradients(gradient, curvature)
        note("Hessian", name, curvature, exact_curvature)
        note("meta-gradient", name, through, exact)
        if surrogate is _log_likelihood:
            whole = through + credit_gradients(batch, adapted_return)
            note("meta-gradient", E_MAML, whole, exact)
    return rows


def panels(rows: list[dict[str, Any]]) -> list[list[Panel]]:
    """Lay the rows out as panels: a row for each quantity, a column for each measure."""
    grid = []
    for quantity in ("Hessian", "meta-gradient"):
        mine = [row for row in rows if row["quantity"] == quantity]
        names = list(dict.fromkeys(row["estimator"] for row in mine))
        line = []
        for measure, label in LABELS.items():
            series = {n: [r[measure] for r in mine if r["estimator"] == n] for n in names}
            lost = {
                n: [r["bias"] < 3 * r["error of bias"] for r in mine if r["estimator"] == n]
                for n in names
            }
            panel = Panel(f"{quantity}: {label}", series, measure != "cosine", {})
            line.append(panel._replace(hollow=lost) if measure == "bias" else panel)
        grid.append(line)
    return grid


def write(request: EstimatorsRequest) -> None:
    """Compute everything and write the table and the figure."""
    command = ".venv/bin/python -m metarl.experiments.estimators --out results/estimators"
    command += f" --trajectories {request.trajectories} --seed {request.seed}"
    rows = [row for episodes in EPISODES for row in rows_at(episodes, request)]
    setting = {"horizon": HORIZON, "alpha": ALPHA, "return per step": float(expected_return(THETA))}
    content = {"command": command, "setting": setting, "rows": rows}
    request.out.mkdir(parents=True, exist_ok=True)
    (request.out / "estimators.json").write_text(json.dumps(content, indent=1) + "\n")
    title = (
        "Estimates of a Hessian and of a meta-gradient from E episodes (hollow: within 3 standard"
    )
    title += " errors of no bias)"
    panels_figure(request.out / "estimators.png", title, panels(rows), EPISODES, "episodes E")


if __name__ == "__main__":
    write(tyro.cli(EstimatorsRequest))
