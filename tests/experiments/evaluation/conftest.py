"""Four small runs, which tests of evaluation share and do not write into."""

from pathlib import Path

import pytest

from metarl.experiments.cli import main

WIDE_GOALS = ("--env.goal-size", "0.1", "--env.horizon", "12", "--episodes", "4")
"""A navigation whose goals are reached at times."""
_TRAIN = ("--iterations", "1", "--tasks-per-update", "4", "--evaluate-every", "0")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train an agent without and one with memory, each on navigation and on bandits."""
    out = tmp_path_factory.mktemp("runs")
    net, memory = ("--agent.policy.hidden-sizes", "8"), ("--agent.memory-size", "4")
    for name, preset, flags in (
        ("maml", "maml-trpo/navigation", (*WIDE_GOALS, *net)),
        ("rl2", "rl2/navigation", (*WIDE_GOALS, *memory)),
        ("bandit", "maml-trpo/bandit", net),
        ("rl2-bandit", "rl2/bandit", (*memory, "--agent.minibatches", "4")),
    ):
        assert main(["train", preset, "--out", str(out / name), *_TRAIN, *flags]) == 0
    return out
