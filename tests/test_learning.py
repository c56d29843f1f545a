"""Learning, in minutes: adapted agents beat random actions and themselves before adaptation."""

import gc
import resource
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metarl.experiments.evaluation.scoring import EvaluationRequest, evaluate_beside_floors
from metarl.experiments.experiment import build
from metarl.experiments.presets import preset
from metarl.seeding import Streams
from metarl.trainer import TrainConfig, meta_train
from tests.conftest import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
REQUEST = EvaluationRequest(adaptations=1, tasks=200)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "iterations", "margin"),
    [
        ("maml-trpo/bandit", 200, 1.0),
        ("reptile/bandit", 200, 0.5),
        ("rl2/bandit", 100, 1.0),
        ("maml-trpo/navigation", 20, 30.0),
        ("reptile/navigation", 60, 20.0),
    ],
)
def test_adapted_agent_beats_random_actions(
    name: str, iterations: int, margin: float, seed: int
) -> None:
    experiment = replace(preset(name), seed=seed, iterations=iterations)
    parts = build(experiment)
    streams = Streams(seed)
    for _ in meta_train(parts.agent, parts.env, parts.distribution, experiment, streams):
        pass
    curves = evaluate_beside_floors(experiment, parts, REQUEST)
    before, after = curves[name].summary.mean
    assert after > before
    assert after > curves["random policy"].summary.mean[1] + margin
    assert after > curves["untrained, adapted"].summary.mean[1]


def resident_megabytes() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmRSS"))
        return int(line.split()[1]) / 1024
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def live_tensors() -> int:
    gc.collect()
    # isinstance would ask the proxies that other libraries leave among them.
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_memory_does_not_grow(world: World) -> None:
    """Nothing is kept from an iteration to the next, small or large."""
    size = TrainConfig(iterations=200, tasks_per_update=4, episodes=5, adaptations=1)
    agent = world.new_agent()
    training = meta_train(agent, world.env, world.distribution, size, Streams(1))
    sizes, tensors, blocks = [], [], []
    for number, _ in enumerate(training):
        sizes.append(resident_megabytes())
        if number % 50 == 49:
            tensors.append(live_tensors())
            blocks.append(sys.getallocatedblocks())
    assert max(sizes[150:]) < 1.05 * sizes[9]
    # Between two looks lie 50 iterations: what each of them kept would be there 50 times.
    assert tensors[-1] < tensors[0] + 50
    assert blocks[-1] < blocks[0] + 150 * 20
