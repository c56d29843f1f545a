"""One experiment: everything that a run's outcome depends on, in one frozen value."""

import dataclasses
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

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
    field_names,
    unknown,
)
from metarl.envs import EnvConfig
from metarl.envs.physics import default_threads
from metarl.envs.told import told
from metarl.processes import ALONE, Processes
from metarl.protocols import Algorithm, TaskDistribution, VectorTaskEnv
from metarl.runs import Config
from metarl.trainer import TrainConfig

FREE_FIELDS = ("iterations", "device", "threads", "checkpoint_every", "evaluate_every")
"""Fields that may change from one sitting of a run to the next."""

Device: TypeAlias = Literal["cpu", "cuda"]

_ConfigT = TypeVar("_ConfigT")


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
    plain: Config = _plain(dataclasses.asdict(experiment))
    plain["env"] = {"name": envs.name_of(experiment.env)} | _mapping(plain["env"])
    plain["agent"] = {"name": agents.name_of(experiment.agent)} | _mapping(plain["agent"])
    return plain


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
        rest["env"] = _read(envs.ENVS[env_name].config, env, "env.")
        rest["agent"] = _read(agents.AGENTS[agent_name].config, agent, "agent.")
        return _read(Experiment, rest, "")
    except InputError as error:
        raise InputError(f"{source}: {line}" for line in error.lines) from None


def _read(config_type: type[_ConfigT], data: Config, path: str) -> _ConfigT:
    """Build a config dataclass from plain data; nested ones by recursion."""
    known = field_names(config_type)
    lines = [unknown(f"{path}{key}", key, known) for key in data if key not in known]
    lines += [f"{path}{key} is missing" for key in known if key not in data]
    if lines:
        raise InputError(lines)
    hints = typing.get_type_hints(config_type)
    values: dict[str, Any] = {}
    for key, value in data.items():
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, dict):
            values[key] = _read(hints[key], value, f"{path}{key}.")
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
            if not _fits(values[key], hints[key]):
                lines.append(f"{path}{key} must be {hints[key]}, got {value!r}")
    if lines:
        raise InputError(lines)
    return config_type(**values)


def _fits(value: object, hint: Any) -> bool:
    """Whether a value has the type of a config field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(entry, arguments[0]) for entry in value)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def _plain(value: Any) -> Any:
    """Turn tuples into lists, which is how YAML reads them back."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value


def _mapping(value: object) -> Config:
    if not isinstance(value, dict):
        raise InputError([f"env and agent must be mappings, got {value!r}"])
    return value
