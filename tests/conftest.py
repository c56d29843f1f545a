"""What several tests need: small environments and agents, random lessons, plain derivatives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from metarl import agents, envs
from metarl.adaptation import Lesson
from metarl.agents import AgentConfig
from metarl.agents.anil import AnilConfig
from metarl.agents.cavia import CaviaConfig
from metarl.agents.emaml import EmamlConfig
from metarl.agents.imaml import ImamlConfig, ImamlTrpoConfig
from metarl.agents.maml import MamlPpoConfig, MamlTrpoConfig, MamlVpgConfig
from metarl.agents.meta_sgd import MetaSgdConfig
from metarl.agents.multi_task import AverageConfig, PretrainedConfig
from metarl.agents.promp import PrompConfig
from metarl.agents.references import RandomConfig
from metarl.agents.reptile import ReptileConfig
from metarl.agents.rl2 import Rl2Config
from metarl.distributions import Distribution
from metarl.envs import EnvConfig
from metarl.envs.half_cheetah import HalfCheetahDirConfig
from metarl.envs.navigation import NavigationConfig
from metarl.envs.tabular import BernoulliBanditConfig, TabularMDPConfig
from metarl.linearisation import Linearisation, linearise
from metarl.policies import PolicyConfig
from metarl.protocols import Algorithm, TaskDistribution, VectorTaskEnv
from metarl.types import EnvSpec, Params, Trajectories

SMALL_ENVS: Mapping[str, EnvConfig] = {
    "metarl/BernoulliBandit-v0": BernoulliBanditConfig(),
    "metarl/TabularMDP-v0": TabularMDPConfig(),
    "metarl/PointNavigation-v0": NavigationConfig(horizon=15),
    "metarl/HalfCheetahDir-v0": HalfCheetahDirConfig(horizon=10),
}
_NET = PolicyConfig(hidden_sizes=(8, 8))
SMALL_AGENTS: Mapping[str, AgentConfig] = {
    "maml-trpo": MamlTrpoConfig(policy=_NET),
    "maml-ppo": MamlPpoConfig(policy=_NET),
    "maml-vpg": MamlVpgConfig(policy=_NET),
    "meta-sgd": MetaSgdConfig(policy=_NET),
    "anil": AnilConfig(policy=_NET),
    "cavia": CaviaConfig(policy=_NET, num_context=3),
    "emaml": EmamlConfig(policy=_NET),
    "promp": PrompConfig(policy=_NET, adaptive_kl=True),
    # 50 steps of half-cheetah are few: with less regularisation its std collapses in adaptation.
    "imaml": ImamlConfig(policy=_NET, inner_lr=0.02, regularisation=20.0),
    "imaml-trpo": ImamlTrpoConfig(policy=_NET, inner_lr=0.02, regularisation=20.0),
    "reptile": ReptileConfig(policy=_NET),
    "rl2": Rl2Config(memory_size=6, epochs=2, minibatches=3, learning_rate=1e-4),
    "average": AverageConfig(policy=_NET),
    "pretrained": PretrainedConfig(policy=_NET),
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


def random_lesson(shape: tuple[int, int, int], spec: EnvSpec, seed: int) -> Lesson:
    """Draw K tasks' lessons, float64, of E episodes of up to T steps; the first is never cut."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    length = torch.randint(1, shape[2] + 1, shape[:2], generator=generator)
    length[:, 0] = shape[2]
    choice = torch.randint(spec.action_size, shape, generator=generator)
    return Lesson(
        obs=randn(*shape, spec.observation_size),
        action=choice if spec.discrete else randn(*shape, spec.action_size),
        log_prob=-1.5 + 0.3 * randn(*shape),
        advantage=randn(*shape),
        mask=torch.arange(shape[2]) < length[..., None],
    )


def random_round(shape: tuple[int, int, int], spec: EnvSpec, seed: int) -> Trajectories:
    """Draw a round whose rewards are the advantages of ``random_lesson``."""
    lesson = random_lesson(shape, spec, seed)
    return Trajectories(
        task_id=torch.full(shape[:1], -1),
        obs=torch.cat((lesson.obs, lesson.obs[:, :, -1:].cos()), 2),
        action=lesson.action,
        log_prob=lesson.log_prob,
        reward=lesson.advantage * lesson.mask,
        terminated=torch.zeros_like(lesson.mask),
        mask=lesson.mask,
        faulty=torch.zeros(shape[:2], dtype=torch.bool),
        success=torch.full(shape[:2], -1, dtype=torch.int8),
    )


def load_script(path: Path) -> nn.Module:
    """Load an export to TorchScript."""
    module = torch.jit.load(path)  # type: ignore[no-untyped-call]
    assert isinstance(module, nn.Module)
    return module


def mean_weights(mask: Tensor) -> Tensor:
    """Weigh samples [K, E, T] for the mean over tasks of the mean over each task's steps."""
    return mask.double() / mask.sum((1, 2), keepdim=True) / len(mask)


def far_from_symmetric(params: Params, seed: int = 0) -> Params:
    """Move weights, float64, to where no bias and no gradient is 0 by accident."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: leaf.double() + 0.3 * torch.randn(leaf.shape, generator=generator).double()
        for name, leaf in params.items()
    }
