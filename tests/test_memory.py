"""Memory of a meta-update on a thousand tasks, measured in a process of its own."""

import resource
import subprocess
import sys

import pytest
import torch

from metarl.agents.maml import MamlTrpo, MamlTrpoConfig
from metarl.seeding import Streams
from metarl.trust_region import TrustRegionConfig
from metarl.types import EnvSpec, Trajectories

TASKS, EPISODES, HORIZON = 1000, 20, 100


def random_round(seed: int) -> Trajectories:
    """Draw experience as large as that of point navigation."""
    generator = torch.Generator().manual_seed(seed)
    shape = (TASKS, EPISODES, HORIZON)
    running = torch.ones(shape, dtype=torch.bool)
    return Trajectories(
        task_id=torch.full((TASKS,), -1),
        obs=torch.randn(TASKS, EPISODES, HORIZON + 1, 2, generator=generator),
        action=torch.randn(*shape, 2, generator=generator),
        log_prob=-2.5 + 0.1 * torch.randn(shape, generator=generator),
        reward=torch.randn(shape, generator=generator),
        terminated=~running,
        mask=running,
        faulty=torch.zeros(TASKS, EPISODES, dtype=torch.bool),
        success=torch.full((TASKS, EPISODES), -1, dtype=torch.int8),
    )


def update_once(curvature_fraction: float) -> None:
    spec = EnvSpec("navigation-like", 2, 2, False, HORIZON, False)
    trust_region = TrustRegionConfig(
        cg_iterations=2, max_backtracks=2, curvature_fraction=curvature_fraction
    )
    agent = MamlTrpo(spec, MamlTrpoConfig(trust_region=trust_region), Streams(0))
    metrics = agent.meta_update([random_round(0), random_round(1)])
    assert metrics["train/gradient_norm"] > 0.0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fraction", ["1.0", "0.5"])
def test_a_meta_update_on_a_thousand_tasks_stays_below_four_gigabytes(fraction: str) -> None:
    command = [sys.executable, __file__, fraction]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 2**10
    assert int(run.stdout) * unit < 4e9


if __name__ == "__main__":
    update_once(float(sys.argv[1]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
