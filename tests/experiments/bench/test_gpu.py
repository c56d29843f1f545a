"""The GPU's targets: the same functions, small, on the CPU."""

import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from metarl.experiments.bench.gpu import (
    Target,
    Workloads,
    measure_targets,
    published_workloads,
    targets_json,
)
from metarl.experiments.bench.measure import figure
from metarl.experiments.bench.tables import print_targets
from metarl.experiments.cli import main
from metarl.experiments.experiment import Experiment


def small(experiment: Experiment) -> Experiment:
    env = replace(experiment.env, horizon=3)
    return replace(experiment, tasks_per_update=2, episodes=2, env=env)


def test_every_target_is_measured_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    workloads = Workloads(*map(small, published_workloads()))
    targets = measure_targets(workloads, "cpu", 2, Console(stderr=True))
    assert torch.get_num_threads() == threads
    assert [target.target for target in targets] == [10.0, 240_000.0, 10e6, 10e6]
    for target in targets:
        assert 0 < target.measured.low <= target.measured.median <= target.measured.high
    result = targets_json(targets, 2, "cpu")
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    print_targets(result, Console(width=200))
    shown = capsys.readouterr().out
    assert "240,000" in shown
    assert "2 tasks x 2 episodes x 3 steps" in shown


def test_a_target_is_met_by_its_median() -> None:
    for values, met in (([9.0, 10.0, 10.0], True), ([9.0, 9.0, 20.0], False)):
        assert Target("x", 10.0, figure("times", values), "").met is met


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "gpu", "--json"]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("metarl: no CUDA device")
    assert shown.out == ""
