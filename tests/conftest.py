"""What several tests need: small environments and agents, and adapted policies by autograd."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from metarl import agents, envs
from metarl.agents import AgentConfig
from metarl.agents.maml import MamlTrpoConfig
from metarl.agents.references import RandomConfig
from metarl.agents.reptile import ReptileConfig
from metarl.distributions import Distribution
from metarl.envs import EnvConfig
from metarl.envs.half_cheetah import HalfCheetahDirConfig
from metarl.envs.navigation import NavigationConfig
from metarl.envs.tabular import BernoulliBanditConfig, TabularMDPConfig
from metarl.policies import PolicyConfig
from metarl.protocols import Algorithm, TaskDistribution, VectorTaskEnv
from metarl.trust_region import Linearisation, linearise

SMALL_ENVS: Mapping[str, EnvConfig] = {
    "metarl/BernoulliBandit-v0": BernoulliBanditConfig(),
    "metarl/TabularMDP-v0": TabularMDPConfig(),
    "metarl/PointNavigation-v0": NavigationConfig(horizon=15),
    "metarl/HalfCheetahDir-v0": HalfCheetahDirConfig(horizon=10),
}
_NET = PolicyConfig(hidden_sizes=(8, 8))
SMALL_AGENTS: Mapping[str, AgentConfig] = {
    "maml-trpo": MamlTrpoConfig(policy=_NET),
    "reptile": ReptileConfig(policy=_NET),
    "random": RandomConfig(),
}


@dataclass(frozen=True)
class World:
    """One agent in one environment."""

    distribution: TaskDistribution
    env: VectorTaskEnv
    new_agent: Callable[[], Algorithm]


def build_world(agent_name: str, env_name: str, threads: int = 1) -> World:
    distribution, env = envs.build(env_name, SMALL_ENVS[env_name], threads=threads)

    def new_agent() -> Algorithm:
        return agents.build(agent_name, env.spec, SMALL_AGENTS[agent_name], seed=3)

    return World(distribution, env, new_agent)


@pytest.fixture(params=SMALL_ENVS)
def env_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SMALL_AGENTS)
def agent_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(agent_name: str, env_name: str) -> World:
    return build_world(agent_name, env_name)


class ByAutograd:
    """Adapted policies as any differentiable function of theta."""

    def __init__(
        self,
        after: Callable[[Tensor], Distribution],
        weights: Tensor,
        share: "ByAutograd | None" = None,
    ) -> None:
        self.after, self.weights, self.share = after, weights, share
        self.fractions: list[float] = []

    def on_fraction(self, fraction: float) -> "ByAutograd":
        self.fractions.append(fraction)
        assert self.share is not None
        return self.share

    def distribution(self, theta: Tensor) -> Distribution:
        with torch.no_grad():
            return self.after(theta)

    def linearise(self, theta: Tensor) -> Linearisation:
        return linearise(self.after, theta, self.weights)
