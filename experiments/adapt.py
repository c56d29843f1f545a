"""Adapting to one task, and keeping the policy: from Python, and by ``metarl adapt``."""

import dataclasses
import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from metarl.acting import ActsByPolicy
from metarl.adapted_policy import AdaptedPolicy, Place
from metarl.checks import COUNT, COUNT_OR_ZERO, SEED, InputError, check_fields
from metarl.envs.one_copy import OneCopy
from metarl.envs.task_dicts import TaskDict, as_dicts, from_dicts
from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.evaluation.scoring import load_run
from metarl.kept_policy import Made
from metarl.policies import CategoricalPolicy
from metarl.policy_export import check_export
from metarl.protocols import Algorithm, HasMemory, VectorTaskEnv
from metarl.runs import Config
from metarl.types import ActionRange, EnvSpec, Tasks


@dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """How a task is explored."""

    episodes: int = 20
    """E, episodes of the task before each adaptation."""
    adaptations: int = 1
    """N, adaptation steps."""
    seed: int = 0
    """Of all that is random in exploring."""

    def __post_init__(self) -> None:
        check_fields(self, {"episodes": COUNT, "adaptations": COUNT_OR_ZERO, "seed": SEED})


def adapt_to(
    agent: Algorithm, env: object, task: Tasks | None = None, config: AdaptConfig | None = None
) -> AdaptedPolicy:
    """Adapt to one task and return the policy, which can act, adapt on, and be saved.

    Args:
        agent: one that names the policy by which it decides (``ActsByPolicy``). With a memory, all
            episodes are those of one trial.
        env: an environment of the suite; or any Gymnasium environment, to the task that it has, one
            episode after the other, with actions in its own ``action_space`` (``OneCopy``). In the
            suite's own environments the policy's actions are those of their faces, in [-1, 1].
        task: of the suite's environment, ``Tasks`` of length 1.
        config: how much is explored.

    Raises:
        InputError: the agent, environment or task is of another kind, or their sizes differ.
    """
    config = config or AdaptConfig()
    place, told = _place(agent, env, task)
    name = type(agent).__name__
    made = Made(agent=name, env=place.env.spec.name, task=told, seed=config.seed)
    policy = AdaptedPolicy.in_place(place, made)
    for _ in range(config.adaptations):
        policy.adapt(config.episodes)
    return policy


def adapt_run(
    run: Path | str, task_or_env: object, config: AdaptConfig | None = None, best: bool = False
) -> AdaptedPolicy:
    """Adapt the agent of a run to one task, and return the policy.

    Args:
        run: its folder.
        task_or_env: a task of the run's environment, as a dict or as ``Tasks`` of length 1; or a
            Gymnasium environment with observations and actions of the same sizes.
        config: how much is explored.
        best: whether to take the weights that were best in validation instead of the last ones.

    Raises:
        InputError: as ``adapt_to``, or the dict is no task of this environment.
        ValueError: the folder holds no run, or no good checkpoint.
    """
    place = "best" if best else "checkpoints"
    machine: Config = {"device": "cpu", "threads": 0}
    _, parts, _ = load_run(Path(run), place, machine, plain_console(stderr=True))
    if isinstance(task_or_env, Mapping):
        allowed = parts.distribution.parameters
        task_or_env = from_dicts(parts.env.spec.name, allowed, [task_or_env])
    if isinstance(task_or_env, Tasks):
        policy = adapt_to(parts.agent, parts.env, task_or_env, config)
    else:
        policy = adapt_to(parts.agent, task_or_env, config=config)
    policy.made = dataclasses.replace(policy.made, run=str(run))
    return policy


@dataclass(frozen=True, kw_only=True)
class AdaptArgs(AdaptConfig):
    """Adapt the agent of a run to one task, and keep the policy."""

    run_dir: tyro.conf.Positional[Path]
    """Folder of the run."""
    task: str
    """The task as JSON, such as '{"velocity": 1.5}'."""
    out: Path
    """Folder for policy.safetensors and policy.json."""
    export: Path | None = None
    """File for the policy as TorchScript (.pt) or ONNX (.onnx)."""
    best: bool = False
    """Take the weights that were best in validation instead of the last ones."""


def adapt_command(arguments: Sequence[str]) -> int:
    """Run ``metarl adapt RUN_DIR --task JSON --out FOLDER [flags]``."""
    args = parse(AdaptArgs, arguments, "adapt")
    if args.export is not None:
        check_export(args.export)
    try:
        task = json.loads(args.task)
    except (ValueError, RecursionError) as error:
        came = reprlib.repr(args.task)
        raise InputError([f"--task is not JSON: {error}; got {came}"]) from None
    if not isinstance(task, dict):
        raise InputError([f"--task must be a JSON object, got {reprlib.repr(args.task)}"])
    policy = adapt_run(args.run_dir, task, args, args.best)
    policy.save(args.out)
    notes = plain_console(stderr=True)
    for number, score in enumerate(policy.made.scores):
        notes.print(f"score after {number} adaptations: {score:.2f}")
    notes.print(f"wrote {args.out}")
    if args.export is not None:
        policy.export(args.export)
        notes.print(f"wrote {args.export}")
    return 0


def _place(agent: Algorithm, env: object, task: Tasks | None) -> tuple[Place, TaskDict | None]:
    """Return who adapts and where, and the task as a dict; or refuse them."""
    if not isinstance(agent, ActsByPolicy):
        need = "names the policy by which it decides (metarl.acting.ActsByPolicy)"
        raise InputError([f"an agent is needed that {need}; got {type(agent).__name__}"])
    if not isinstance(env, VectorTaskEnv):
        env = OneCopy(env)
    _check_sizes(agent, env.spec)
    if isinstance(env, OneCopy):
        if task is not None:
            raise InputError([f"{env.spec.name}: it has its task already; OneCopy(env, task=...)"])
        return Place(agent, env, env.tasks, True, env.action_range), env.task
    if not isinstance(task, Tasks) or len(task.task_id) != 1:
        came = f"{len(task.task_id)} tasks" if isinstance(task, Tasks) else type(task).__name__
        make = "envs.task_dicts.from_dicts makes them of dicts"
        raise InputError([f"{env.spec.name}: Tasks of length 1 are needed ({make}), got {came}"])
    ones = torch.ones(env.spec.action_size)
    of_faces = None if env.spec.discrete else ActionRange(-ones, ones)
    return Place(agent, env, task, isinstance(agent, HasMemory), of_faces), as_dicts(task)[0]


def _check_sizes(agent: ActsByPolicy, spec: EnvSpec) -> None:
    policy, _ = agent.acting_policy(agent.begin(1, 1))
    head = policy.head
    own = (policy.observation_size, head.layer_sizes[-1], isinstance(head, CategoricalPolicy))
    there = (spec.observation_size, spec.action_size, spec.discrete)
    if own != there:
        need, came = (
            f"observations of {seen}, actions of {acts} {'choices' if chosen else 'numbers'}"
            for seen, acts, chosen in (own, there)
        )
        raise InputError([f"{spec.name}: the agent needs {need}; the environment has {came}"])
