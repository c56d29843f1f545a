"""Every environment of the table under random actions: env steps per second, and the limit.

All copies go on to the horizon, those whose episode has ended too, so that each environment and the
physics beside it do the same work.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from rich.console import Console
from torch import Tensor

from metarl import envs
from metarl.checks import COUNT, COUNT_OR_ZERO, POSITIVE, check_fields, unknown
from metarl.envs.mujoco_env import MujocoEnv
from metarl.envs.physics import default_threads
from metarl.experiments.bench.measure import (
    SHARE,
    STEP_RATE,
    Figures,
    as_json,
    figure,
    hardware,
    in_turn,
    ratios,
    seconds,
)
from metarl.parallel import one_torch_thread
from metarl.protocols import VectorTaskEnv
from metarl.runs import Config, system_facts
from metarl.seeding import Streams
from metarl.types import Tasks

FORMAT = "metarl-bench-envs-1"
_STREAMS = Streams(0, ("bench envs",))


@dataclass(frozen=True, kw_only=True)
class EnvsRequest:
    """Which environments, how many copies, for how long."""

    only: tuple[str, ...] = ()
    """Names of environments; all of them where left out."""
    copies: int = 800
    """Copies of a body in MuJoCo."""
    tensor_copies: int = 4096
    """Copies of an environment made of tensors."""
    rounds: int = 5
    """Timed repetitions of each, after one to warm up."""
    round_s: float = 1.0
    """About how long a round of an environment takes, in s."""
    threads: int = 0
    """Threads of the physics and of torch; 0 takes every core of this process."""

    def __post_init__(self) -> None:
        counts = dict.fromkeys(("copies", "tensor_copies", "rounds"), COUNT)
        check_fields(
            self,
            {**counts, "round_s": POSITIVE, "threads": COUNT_OR_ZERO},
            *(
                unknown("environment", name, envs.ENVS)
                for name in self.only
                if name not in envs.ENVS
            ),
        )


class Walk(NamedTuple):
    """Random actions for all copies of an environment, one task for each copy."""

    env: VectorTaskEnv
    tasks: Tasks
    actions: Tensor
    """[steps, K, 1, ...]."""

    @property
    def num_steps(self) -> int:
        """Env steps of the walk."""
        return len(self.actions) * len(self.tasks.task_id)

    def start(self) -> None:
        """Reset all copies."""
        self.env.reset(self.tasks, 1, _STREAMS)

    def go(self) -> None:
        """Step all copies through the actions."""
        running = torch.ones(self.actions.shape[1:3], dtype=torch.bool)
        for action in self.actions:
            self.env.step(action, running)


def bench_envs(request: EnvsRequest, console: Console) -> Config:
    """Measure environments one after the other; return what ``--json`` prints."""
    rows = []
    for name in request.only or tuple(envs.ENVS):
        console.print(f"measuring {name} ...")
        rows.append(_row(name, request))
    return {
        "format": FORMAT,
        "rounds": request.rounds,
        "threads": request.threads or default_threads(),
        "environments": rows,
        "system": system_facts() | hardware(),
    }


def _row(name: str, request: EnvsRequest) -> Config:
    threads = request.threads or default_threads()
    distribution, env = envs.build(name, threads=threads)
    in_mujoco = isinstance(env, MujocoEnv)
    copies = request.copies if in_mujoco else request.tensor_copies
    tasks = distribution.sample(copies, _STREAMS)
    with one_torch_thread(when=in_mujoco):
        figures = _figures(env, tasks, request)
    preset = next(iter(envs.ENVS[name].presets))
    return {"name": name, "preset": preset, "copies": copies, "figures": as_json(figures)}


def _figures(env: VectorTaskEnv, tasks: Tasks, request: EnvsRequest) -> Figures:
    few = Walk(env, tasks, _random_actions(env, len(tasks.task_id), 3))
    few.start()
    few.go()
    num_steps = max(3, round(3 * request.round_s / seconds(few.go, "cpu")))
    walk = few._replace(actions=_random_actions(env, len(tasks.task_id), num_steps))
    trials = {"environment": _env_trial(walk)}
    if isinstance(env, MujocoEnv):
        trials["physics"] = _physics_trial(walk, env)
    rates = in_turn(trials, request.rounds)
    figures = {name: figure(STEP_RATE, values) for name, values in rates.items()}
    if "physics" in rates:
        figures["share"] = figure(SHARE, ratios(rates["environment"], rates["physics"]))
    return figures


def _env_trial(walk: Walk) -> Callable[[], float]:
    def run() -> float:
        walk.start()
        return walk.num_steps / seconds(walk.go, "cpu")

    return run


def _physics_trial(walk: Walk, env: MujocoEnv) -> Callable[[], float]:
    """Return a trial of the bare physics, under the controls that those actions are."""
    physics = env.copy_physics()
    low, high = physics.control_range
    shares = (walk.actions / env.spec.action_limit).clamp(-1.0, 1.0).flatten(1, 2).double().numpy()
    controls = low + (high - low) * (shares + 1.0) / 2.0

    def go() -> None:
        for now in controls:
            physics.ctrl[:] = now
            physics.step()

    def run() -> float:
        walk.start()  # both start at the same place
        physics.reset(env.physics.qpos.copy(), env.physics.qvel.copy())
        return walk.num_steps / seconds(go, "cpu")

    return run


def _random_actions(env: VectorTaskEnv, copies: int, num_steps: int) -> Tensor:
    """Draw actions [steps, K, 1, ...] uniformly from all that there are."""
    spec = env.spec
    generator = torch.Generator().manual_seed(0)
    if spec.discrete:
        return torch.randint(spec.action_size, (num_steps, copies, 1), generator=generator)
    uniform = torch.rand(num_steps, copies, 1, spec.action_size, generator=generator)
    return (2.0 * uniform - 1.0) * spec.action_limit
