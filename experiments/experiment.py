"""One experiment: everything that a run's outcome depends on, in one frozen value."""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import torch
import tyro

from metarl import agents, envs
from metarl.agents import AgentConfig
from metarl.checks import (
    COUNT_OR_ZERO,
    SEED,
    InputError,
    check_fields,
    fault_in_choice,
    unknown,
)
from metarl.envs import EnvConfig
from metarl.envs.physics import default_threads
from metarl.envs.told import told
from metarl.plain_data import plain, read_fields
from metarl.processes import ALONE, Processes
from metarl.protocols import Algorithm, NeedsAmounts, TaskDistribution, VectorTaskEnv
from metarl.runs import Config
from metarl.trainer import TrainConfig

FREE_FIELDS = ("iterations", "device", "threads", "checkpoint_every", "evaluate_every")
"""Fields that may change from one sitting of a run to the next."""

Device: TypeAlias = Literal["cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class Experiment(TrainConfig):
    """A published setting, or a variation of one."""

    preset: tyro.conf.Suppress[str]
    """Name of the preset that this was made from."""
    env: EnvConfig
    agent: AgentConfig
    told: bool = False
    """Whether observations tell the task: for references that need not find it out."""
    seed: int = 1
    """Seed of the weights, the tasks and everything else that is drawn."""
    device: Device = "cpu"
    """Where weights and updates live; MuJoCo stays on the CPU."""
    threads: int = 0
    """Threads of the physics; 0 takes every core of this process, or its part of the machine's
    where torchrun started several."""
    checkpoint_every: int = 10
    """Meta-iterations between checkpoints; 0 saves at the end and on a signal only."""
    evaluate_every: int = 25
    """Meta-iterations between validations, which decide on the best weights; 0 for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(
            self,
            {
                "seed": SEED,
                "threads": COUNT_OR_ZERO,
                "checkpoint_every": COUNT_OR_ZERO,
                "evaluate_every": COUNT_OR_ZERO,
            },
            fault_in_choice(self, "device", typing.get_args(Device)),
            "Experiment.device: 'cuda' asked for, but torch sees no GPU here; use 'cpu'"
            if self.device == "cuda" and not torch.cuda.is_available()
            else None,
            self.agent.fault_with(self) if isinstance(self.agent, NeedsAmounts) else None,
        )


class Parts(NamedTuple):
    """What an experiment is run with."""

    distribution: TaskDistribution
    env: VectorTaskEnv
    agent: Algorithm


def threads_for(experiment: Experiment, processes: Processes) -> int:
    """Return how many threads one of several processes takes, at least 1."""
    return experiment.threads or max(1, default_threads() // processes.local_size)


def build(experiment: Experiment, processes: Processes = ALONE) -> Parts:
    """Build the task distribution, the environment and an agent with fresh weights."""
    distribution, env = envs.build(
        envs.name_of(experiment.env),
        experiment.env,
        device=experiment.device,
        threads=threads_for(experiment, processes),
    )
    if experiment.told:
        env = told(distribution, env)
    agent = agents.build(
        agents.name_of(experiment.agent),
        env.spec,
        experiment.agent,
        seed=experiment.seed,
        device=experiment.device,
        processes=processes,
    )
    return Parts(distribution, env, agent)


def to_dict(experiment: Experiment) -> Config:
    """Return the experiment as plain data; ``name`` tells which table entry a part belongs to."""
    config: Config = plain(dataclasses.asdict(experiment))
    config["env"] = {"name": envs.name_of(experiment.env)} | _mapping(config["env"])
    config["agent"] = {"name": agents.name_of(experiment.agent)} | _mapping(config["agent"])
    return config


def from_dict(config: Config, source: Path) -> Experiment:
    """Read an experiment back from plain data, strictly.

    Raises:
        InputError: a key is unknown or missing, or a value of the wrong type or out of range; one
            line for each, naming ``source``, the key and what is allowed.
    """
    try:
        rest = dict(config)
        env = dict(_mapping(rest.pop("env", {})))
        agent = dict(_mapping(rest.pop("agent", {})))
        env_name, agent_name = str(env.pop("name", None)), str(agent.pop("name", None))
        if env_name not in envs.ENVS:
            raise InputError([unknown("env.name", env_name, envs.ENVS)])
        if agent_name not in agents.AGENTS:
            raise InputError([unknown("agent.name", agent_name, agents.AGENTS)])
        rest["env"] = read_fields(envs.ENVS[env_name].config, env, "env.")
        rest["agent"] = read_fields(agents.AGENTS[agent_name].config, agent, "agent.")
        return read_fields(Experiment, rest, "")
    except InputError as error:
        raise InputError(f"{source}: {line}" for line in error.lines) from None


def environment_name(config: Mapping[str, object]) -> str:
    """Name a stored environment by its preset, or by what it has other than the first one."""
    env = dict(config)
    name = str(env.pop("name"))
    presets = envs.ENVS[name].presets if name in envs.ENVS else {}
    published = {key: plain(dataclasses.asdict(preset)) for key, preset in presets.items()}
    for key, values in published.items():
        if values == env:
            return f"{name}, {key}"
    first: dict[str, object] = next(iter(published.values()), {})
    other = [
        f"{key} {value}" for key, value in env.items() if key not in first or first[key] != value
    ]
    return f"{name} ({', '.join(other)})"


def _mapping(value: object) -> Config:
    if not isinstance(value, dict):
        raise InputError([f"env and agent must be mappings, got {value!r}"])
    return value
