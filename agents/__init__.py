"""The table of agents: a name to its config and its constructor."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from metarl.agents.anil import Anil, AnilConfig
from metarl.agents.cavia import Cavia, CaviaConfig
from metarl.agents.emaml import Emaml, EmamlConfig
from metarl.agents.imaml import Imaml, ImamlConfig, ImamlTrpo, ImamlTrpoConfig
from metarl.agents.maml import (
    MamlPpo,
    MamlPpoConfig,
    MamlTrpo,
    MamlTrpoConfig,
    MamlVpg,
    MamlVpgConfig,
)
from metarl.agents.meta_sgd import MetaSgd, MetaSgdConfig
from metarl.agents.multi_task import Average, AverageConfig, Pretrained, PretrainedConfig
from metarl.agents.promp import Promp, PrompConfig
from metarl.agents.references import RandomAgent, RandomConfig
from metarl.agents.reptile import Reptile, ReptileConfig
from metarl.agents.rl2 import Rl2, Rl2Config
from metarl.checks import InputError, unknown
from metarl.processes import ALONE, Processes
from metarl.protocols import Algorithm
from metarl.seeding import Streams
from metarl.types import EnvSpec

AgentConfig: TypeAlias = (
    MamlTrpoConfig
    | MamlPpoConfig
    | MamlVpgConfig
    | EmamlConfig
    | PrompConfig
    | ImamlConfig
    | ImamlTrpoConfig
    | MetaSgdConfig
    | AnilConfig
    | CaviaConfig
    | ReptileConfig
    | Rl2Config
    | AverageConfig
    | PretrainedConfig
    | RandomConfig
)


class Entry(NamedTuple):
    """One row of the table."""

    summary: str
    config: type[Any]
    build: Callable[[EnvSpec, Any, Streams, Processes], Algorithm]
    """(spec, config, streams, processes) to an agent on the device of the streams."""


AGENTS: Mapping[str, Entry] = {
    "maml-trpo": Entry(
        "MAML with a trust-region outer step (Finn et al. 2017)", MamlTrpoConfig, MamlTrpo
    ),
    "maml-ppo": Entry("MAML with PPO's outer steps", MamlPpoConfig, MamlPpo),
    "maml-vpg": Entry("MAML with one policy-gradient step outside", MamlVpgConfig, MamlVpg),
    "emaml": Entry(
        "E-MAML: MAML-TRPO with credit for the sampling before adaptation (Stadie et al. 2018)",
        EmamlConfig,
        Emaml,
    ),
    "promp": Entry("ProMP, proximal meta-policy search (Rothfuss et al. 2019)", PrompConfig, Promp),
    "meta-sgd": Entry(
        "Meta-SGD: MAML whose inner step sizes are learned (Li et al. 2017)",
        MetaSgdConfig,
        MetaSgd,
    ),
    "anil": Entry("ANIL: MAML whose last layer alone adapts (Raghu et al. 2020)", AnilConfig, Anil),
    "cavia": Entry(
        "CAVIA: context parameters alone adapt (Zintgraf et al. 2019)", CaviaConfig, Cavia
    ),
    "imaml": Entry("MAML with implicit gradients (Rajeswaran et al. 2019)", ImamlConfig, Imaml),
    "imaml-trpo": Entry(
        "MAML with implicit gradients and a trust-region outer step", ImamlTrpoConfig, ImamlTrpo
    ),
    "reptile": Entry(
        "Reptile with policy-gradient inner steps (Nichol et al. 2018)", ReptileConfig, Reptile
    ),
    "rl2": Entry("RL^2: a recurrent policy and PPO (Duan et al. 2016)", Rl2Config, Rl2),
    "average": Entry("one policy for all tasks, which never adapts", AverageConfig, Average),
    "pretrained": Entry(
        "one policy trained on all tasks, and fine-tuned at test", PretrainedConfig, Pretrained
    ),
    "random": Entry("random actions, the floor of every curve", RandomConfig, RandomAgent),
}


def build(
    name: str,
    spec: EnvSpec,
    config: AgentConfig | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    processes: Processes = ALONE,
) -> Algorithm:
    """Build an agent with fresh weights for an environment.

    Args:
        name: a key of ``AGENTS``.
        spec: of the environment.
        config: of the agent's type; its defaults where left out.
        seed: of the weights.
        device: where the weights, and with them all computation, live.
        processes: those that share the tasks of each meta-update.

    Raises:
        ValueError: no such agent; the message holds the nearest name.
        TypeError: ``config`` belongs to another agent.
    """
    if name not in AGENTS:
        raise InputError([unknown("agent", name, AGENTS)])
    entry = AGENTS[name]
    config = entry.config() if config is None else config
    if type(config) is not entry.config:
        raise TypeError(f"{name} takes a {entry.config.__name__}, got {type(config).__name__}")
    return entry.build(spec, config, Streams(seed, ("weights",), device=device), processes)


def name_of(config: AgentConfig) -> str:
    """Return the name of the agent that a config belongs to."""
    return next(name for name, entry in AGENTS.items() if entry.config is type(config))
