"""What each process does in tests that torchrun starts: ``-m tests.group_worker FOLDER``.

It leaves ``<rank>.json`` and ``<rank>.safetensors`` in the folder, for the test to compare.
"""

import contextlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from metarl import agents, envs
from metarl.agents.maml import MamlTrpoConfig
from metarl.agents.reptile import ReptileConfig
from metarl.checks import InputError
from metarl.experiments.experiment import build, threads_for
from metarl.experiments.group import as_one, claim_machine
from metarl.experiments.presets import preset
from metarl.experiments.progress import DriftError, Progress
from metarl.policies import PolicyConfig
from metarl.processes import Processes, connect
from metarl.seeding import Streams
from metarl.trainer import TrainConfig, meta_train
from metarl.trust_region import TrustRegionConfig
from metarl.types import Metrics
from tests.conftest import SMALL_AGENTS, SMALL_ENVS

_FRACTION = MamlTrpoConfig(
    policy=PolicyConfig(hidden_sizes=(8, 8)),
    trust_region=TrustRegionConfig(curvature_fraction=0.3),
)
_LEARNERS = ReptileConfig(
    inner_learner="ppo",
    inner_epochs=2,
    inner_optimizer="adam",
    inner_lr=0.01,
    anneal_over=5,
    policy=PolicyConfig(hidden_sizes=(8, 8)),
)
CASES = {
    "maml-bandit": ("metarl/BernoulliBandit-v0", SMALL_AGENTS["maml-trpo"]),
    "maml-navigation": ("metarl/PointNavigation-v0", SMALL_AGENTS["maml-trpo"]),
    "maml-fraction": ("metarl/PointNavigation-v0", _FRACTION),
    "maml-cheetah": ("metarl/HalfCheetahDir-v0", SMALL_AGENTS["maml-trpo"]),
    "meta-sgd-bandit": ("metarl/BernoulliBandit-v0", SMALL_AGENTS["meta-sgd"]),
    "cavia-navigation": ("metarl/PointNavigation-v0", SMALL_AGENTS["cavia"]),
    "emaml-navigation": ("metarl/PointNavigation-v0", SMALL_AGENTS["emaml"]),
    "promp-navigation": ("metarl/PointNavigation-v0", SMALL_AGENTS["promp"]),
    "imaml-navigation": ("metarl/PointNavigation-v0", SMALL_AGENTS["imaml"]),
    "imaml-trpo-navigation": ("metarl/PointNavigation-v0", SMALL_AGENTS["imaml-trpo"]),
    "reptile-navigation": ("metarl/PointNavigation-v0", SMALL_AGENTS["reptile"]),
    "rl2-bandit": ("metarl/BernoulliBandit-v0", SMALL_AGENTS["rl2"]),
    "rl2-navigation": ("metarl/PointNavigation-v0", SMALL_AGENTS["rl2"]),
    "average-navigation": ("metarl/PointNavigation-v0", SMALL_AGENTS["average"]),
    "reptile-learners": ("metarl/PointNavigation-v0", _LEARNERS),
    "random": ("metarl/BernoulliBandit-v0", SMALL_AGENTS["random"]),
}
CONFIG = TrainConfig(iterations=5, tasks_per_update=7, episodes=5, adaptations=1)


def train_cases(processes: Processes) -> tuple[dict[str, Tensor], dict[str, list[Metrics]]]:
    """Train every case; return all weights by ``case/name``, and the metrics without times."""
    weights: dict[str, Tensor] = {}
    metrics: dict[str, list[Metrics]] = {}
    for case, (env_name, config) in CASES.items():
        distribution, env = envs.build(env_name, SMALL_ENVS[env_name], threads=1)
        name = agents.name_of(config)
        agent = agents.build(name, env.spec, config, seed=3, processes=processes)
        results = list(meta_train(agent, env, distribution, CONFIG, Streams(11)))
        metrics[case] = [
            {k: v for k, v in result.metrics.items() if not k.startswith("time/")}
            | {"env_steps": result.env_steps}
            for result in results
        ]
        weights |= {f"{case}/{leaf}": value for leaf, value in agent.state_dict().items()}
    return weights, metrics


def exchanges(processes: Processes) -> dict[str, Any]:
    """Try every kind of exchange."""
    rank, mine = processes.rank, torch.tensor([1.0, processes.rank])
    result = {
        "rank": rank,
        "total": processes.total(mine).tolist(),
        "argument": mine.tolist(),
        "place": list(processes.place(3 + rank)),
        "highest": processes.highest(rank, -rank),
        "from_first": [leaf.tolist() for leaf in processes.from_first([mine, mine.long() + rank])],
        "agree": [processes.agree("0" * 15 + "1"), processes.agree(f"{rank:x}" * 15)],
    }
    experiment = preset("maml-trpo/bandit")
    claim_machine(experiment, processes)
    result["threads"] = [torch.get_num_threads(), threads_for(experiment, processes)]
    return result


def aligned(processes: Processes) -> list[str]:
    """Drift apart and come together again; then ask for different things."""
    progress = Progress(preset("reptile/bandit"), processes)
    agent = progress.parts.agent
    moved = {name: leaf + processes.rank for name, leaf in agent.state_dict().items()}
    agent.load_state_dict(moved)
    progress.iteration = 4 - processes.rank
    said = []
    try:
        progress.refuse_drift()
    except DriftError as error:
        said.append(str(error))
    progress.align()
    progress.refuse_drift()
    said.append(str(progress.iteration))
    other = replace(progress.experiment, seed=1 + processes.rank)
    progress.experiment, progress.parts = other, build(other, processes)
    return [*said, *spoken(processes, progress.align)]


def spoken(processes: Processes, work: Callable[[], None]) -> list[str]:
    """Return what a process says when ``work`` is done as one, and how that ends."""
    said = io.StringIO()
    ending = "well"
    with contextlib.redirect_stderr(said):
        try:
            with as_one(processes):
                work()
        except InputError as error:
            ending = str(error)
        except SystemExit as leaving:
            ending = f"exit {leaving.code}"
    return [said.getvalue(), ending]


def failures(processes: Processes) -> dict[str, list[str]]:
    """Fail in one process, in all, and in none."""

    def fail(*ranks: int, status: int = 0) -> Callable[[], None]:
        def work() -> None:
            sys.stderr.write("note ")
            if processes.rank in ranks:
                raise SystemExit(status) if status else InputError([f"process {processes.rank}"])

        return work

    return {
        "none": spoken(processes, fail()),
        "second": spoken(processes, fail(1)),
        "both": spoken(processes, fail(0, 1)),
        "exit": spoken(processes, fail(0, 1, status=2)),
        "few tasks": spoken(processes, lambda: processes.share(1) and None),
    }


def main(folder: Path) -> None:
    """Run everything as one of several processes."""
    with connect() as processes:
        facts = exchanges(processes) | {"said": failures(processes)}
        facts["aligned"] = aligned(processes)
        weights, facts["metrics"] = train_cases(processes)
        save_file(weights, folder / f"{processes.rank}.safetensors")
        (folder / f"{processes.rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
