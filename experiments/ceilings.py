"""The table of what can be reached on bandits and MDPs, beside the published one, as JSON.

    python -m metarl.experiments.ceilings --out results/ceilings

Every rule plays the same held-out tasks, so that the columns are paired.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import tyro
from torch import Tensor

from metarl import envs
from metarl.checks import COUNT, check_fields
from metarl.envs import bandit_ceilings as bandits
from metarl.envs import mdp_ceilings as mdps
from metarl.envs.bandit_tables import bayes_optimal_plan
from metarl.envs.tabular import BernoulliBanditConfig, TabularMDPConfig
from metarl.seeding import Streams

CASES = ((10, 5), (10, 10), (10, 50), (100, 5), (100, 10), (500, 5))
"""(pulls n, arms k) of the published table."""
EXPLORATIONS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
"""The c that are tried for UCB from the prior, on tasks of their own."""
SEARCH_TASKS = 5000
MDP_EPISODES = (10, 25, 50)
STREAMS = Streams(0, ("ceilings",))

Played: TypeAlias = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class CeilingsRequest:
    """What to compute, and where to put it."""

    out: Path
    """Folder of ``bandits.json`` and ``mdps.json``."""
    bandits: int = 50_000
    """Held-out bandits for each (n, k)."""
    mdps: int = 10_000
    """Held-out MDPs."""

    def __post_init__(self) -> None:
        check_fields(self, {"bandits": COUNT, "mdps": COUNT})


def bandit_row(num_pulls: int, num_arms: int, num_tasks: int) -> dict[str, Any]:
    """Return the scores of every rule on one (n, k) of Bernoulli bandits."""
    distribution, _ = envs.build(
        "metarl/BernoulliBandit-v0", BernoulliBanditConfig(num_arms=num_arms)
    )
    mean = distribution.held_out(num_tasks).parameter["reward_mean"][:, 0]
    search = distribution.sample(SEARCH_TASKS, STREAMS.at("search")).parameter["reward_mean"][:, 0]

    def play(rule: bandits.Rule, tasks: Tensor = mean) -> Tensor:
        return bandits.play(tasks, rule, num_pulls, "bernoulli", STREAMS.at(num_pulls, num_arms))

    def bound(exploration: float) -> bandits.Rule:
        return partial(bandits.pull_upper_bound_from_prior, exploration=exploration)

    best = max(EXPLORATIONS, key=lambda c: float(play(bound(c), search).double().sum(-1).mean()))
    rules: dict[str, Played] = {
        "greedy": lambda: play(bandits.pull_greatest_mean),
        "optimistic Thompson sampling": lambda: play(bandits.pull_sampled_optimistically),
        "UCB from the prior": lambda: play(bound(best)),
    }
    named: dict[str, bandits.BanditCeiling] = {
        "random": bandits.random_arm,
        "best arm": bandits.best_arm,
        "Gittins": bandits.gittins,
        "Thompson sampling": bandits.thompson_sampling,
        "UCB1": bandits.ucb1,
    }
    streams = STREAMS.at(num_pulls, num_arms)
    rules |= {name: partial(f, mean, num_pulls, "bernoulli", streams) for name, f in named.items()}
    row: dict[str, Any] = {"pulls": num_pulls, "arms": num_arms, "tasks": num_tasks}
    row["exploration of UCB from the prior"] = best
    if num_pulls <= 10:
        row["Bayes-optimal value, exact"] = bayes_optimal_plan(num_arms, num_pulls).value
        rules["Bayes-optimal"] = partial(
            bandits.bayes_optimal, mean, num_pulls, "bernoulli", streams
        )
    return row | {"total reward": {name: _summary(run().sum(-1)) for name, run in rules.items()}}


def mdp_table(num_tasks: int) -> dict[str, Any]:
    """Return the scores on random MDPs: total reward of the first n episodes."""
    config = TabularMDPConfig()
    distribution, _ = envs.build("metarl/TabularMDP-v0", config)
    parameter = distribution.held_out(num_tasks).parameter
    mdp = mdps.MDP(parameter["reward_mean"].double(), parameter["transition"].double())
    best, _ = mdps.value_iteration(mdp, config.horizon)
    floor = mdps.random_value(mdp, config.horizon)
    most = max(MDP_EPISODES)
    sampled = mdps.psrl(mdp, config.horizon, most, STREAMS.at("mdp"))
    greedy = mdps.greedy(mdp, config.horizon, most, STREAMS.at("mdp"))
    rows = {
        str(number): {
            "random": _summary(floor * number),
            "PSRL": _summary(sampled[:, :number].sum(-1)),
            "greedy": _summary(greedy[:, :number].sum(-1)),
            "value iteration": _summary(best * number),
        }
        for number in MDP_EPISODES
    }
    return {"tasks": num_tasks, "total reward of n episodes": rows}


def write(request: CeilingsRequest) -> None:
    """Compute both tables and write them."""
    request.out.mkdir(parents=True, exist_ok=True)
    command = "python -m metarl.experiments.ceilings --out results/ceilings"
    command += f" --bandits {request.bandits} --mdps {request.mdps}"
    tables: Mapping[str, Callable[[], Any]] = {
        "mdps": lambda: mdp_table(request.mdps),
        "bandits": lambda: {"rows": [bandit_row(n, k, request.bandits) for n, k in CASES]},
    }
    for name, table in tables.items():
        content = {"command": command} | table()
        (request.out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def _summary(total: Tensor) -> dict[str, float]:
    """Return the mean over tasks and its standard error."""
    total = total.double()
    error = total.std() / len(total) ** 0.5
    return {"mean": round(float(total.mean()), 4), "error": round(float(error), 4)}


if __name__ == "__main__":
    write(tyro.cli(CeilingsRequest))
