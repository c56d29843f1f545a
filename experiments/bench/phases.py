"""The phases of an experiment that a benchmark measures, each with fresh weights of its own."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.envs.mujoco_env import MujocoEnv
from metarl.envs.physics import BatchPhysics
from metarl.experiments.bench.measure import (
    SECONDS,
    SHARE,
    STEP_RATE,
    TASK_RATE,
    Figures,
    figure,
    in_turn,
    ratios,
    seconds,
    timed,
)
from metarl.experiments.evaluation.scoring import evaluate, request_for
from metarl.experiments.experiment import Experiment, Parts, build
from metarl.processes import ALONE, Processes
from metarl.protocols import Algorithm
from metarl.sampler import action_noise, adaptation_rounds, collect
from metarl.seeding import Streams
from metarl.trainer import meta_train
from metarl.types import Tasks, Trajectories

PhaseName: TypeAlias = Literal["sampling", "update", "iteration", "evaluation", "import"]
Trial: TypeAlias = Callable[[], float]

_IMPORT = """
import time
began = time.perf_counter()
import torch
torch_done = time.perf_counter()
import metarl.trainer, metarl.envs, metarl.agents
print(torch_done - began, time.perf_counter() - torch_done)
"""


class Round(NamedTuple):
    """One round of sampling, as often as it is wanted: every time the very same one."""

    parts: Parts
    tasks: Tasks
    episodes: int
    streams: Streams

    def collect(self) -> Trajectories:
        """Sample the round with the policy as it is before any adaptation."""
        env, agent = self.parts.env, self.parts.agent
        adapted = agent.begin(len(self.tasks.task_id), self.episodes)
        batch, _ = collect(env, self.tasks, agent, adapted, self.episodes, self.streams)
        return batch


def first_round(experiment: Experiment) -> Round:
    """Build an experiment and draw the tasks of its first round."""
    parts, streams = build(experiment), _streams(experiment)
    tasks = parts.distribution.sample(experiment.tasks_per_update, streams)
    return Round(parts, tasks, experiment.episodes, streams)


def sampling_trial(sampled: Round) -> Trial:
    """Return a trial that samples a round: env steps per second, by the steps it really took."""
    device = sampled.streams.device
    taken = int(sampled.collect().mask.sum())
    return lambda: taken / seconds(sampled.collect, device)


class PhysicsRound(NamedTuple):
    """What the physics was given in one round, for N copies over T steps."""

    qpos: NDArray[np.float64]
    """Start, [N, nq]."""
    qvel: NDArray[np.float64]
    """Start, [N, nv]."""
    controls: NDArray[np.float64]
    """[T, N, nu]."""
    running: NDArray[np.bool_]
    """[N, T]: which copies were stepped."""


def record_physics(env: MujocoEnv, sampled: Round) -> PhysicsRound:
    """Sample a round and go through it again, noting what reaches the physics."""
    batch = sampled.collect()
    env.reset(sampled.tasks, sampled.episodes, sampled.streams.at("env"))
    qpos, qvel = env.physics.qpos.copy(), env.physics.qvel.copy()
    controls = []
    for time in range(env.spec.horizon):
        env.step(batch.action[:, :, time], batch.mask[:, :, time])
        controls.append(env.physics.ctrl.copy())
    return PhysicsRound(qpos, qvel, np.stack(controls), batch.mask.flatten(0, 1).cpu().numpy())


def replay(physics: BatchPhysics, recorded: PhysicsRound) -> None:
    """Step bare physics through a recorded round."""
    physics.reset(recorded.qpos, recorded.qvel)
    for time, controls in enumerate(recorded.controls):
        physics.ctrl[:] = controls
        running = recorded.running[:, time]
        physics.step(None if running.all() else running.nonzero()[0])


def bench_sampling(experiment: Experiment, rounds: int) -> Figures:
    """Time rounds with the policy beside the same number of steps without it, in turn.

    On MuJoCo there are two limits, both of the bare physics on as many threads and from the round's
    own start: "raw_random_controls" under controls drawn uniformly from their full range, and
    "raw_policy_controls" under the very controls that the policy gave. Weak torques leave more
    bodies in contact, and contacts cost time. For environments made of tensors the limit is the
    environment's own step under random actions.
    """
    sampled = first_round(experiment)
    rates = in_turn({"with_policy": sampling_trial(sampled), **_without_policy(sampled)}, rounds)
    figures = {name: figure(STEP_RATE, values) for name, values in rates.items()}
    full = rates.pop("with_policy")
    shares = {f"share_of_{name}": figure(SHARE, ratios(full, bare)) for name, bare in rates.items()}
    return figures | shares


def bench_update(experiment: Experiment, rounds: int) -> Figures:
    """Time the same meta-update again and again, from the same weights on the same rounds."""
    parts, tasks, episodes, streams = first_round(experiment)
    agent = parts.agent
    walk = adaptation_rounds(parts.env, tasks, agent, episodes, experiment.adaptations, streams)
    batches = [batch for batch, _ in walk]
    state = agent.state_dict()

    def update() -> float:
        agent.load_state_dict(state)
        return seconds(lambda: agent.meta_update(batches), experiment.device)

    return {"meta_update": figure(SECONDS, in_turn({"update": update}, rounds)["update"])}


def bench_iteration(experiment: Experiment, rounds: int, processes: Processes = ALONE) -> Figures:
    """Time whole meta-iterations as training runs them, and find which share goes where.

    "stepping" is all that is neither acting, adaptation nor update: the environment, and the rest
    of the sampler; where the sampler acts and steps at the same time, the part that acting does not
    hide.
    """
    parts = build(experiment, processes)
    observed = timed(parts.agent, experiment.device)
    trials = {"observed": _iterations(experiment, parts, observed, observed.take_seconds)}
    if experiment.device == "cuda":
        # Waiting for the GPU at each call costs time: the shares get iterations of their own.
        trials["free"] = _iterations(experiment, parts, parts.agent, dict)
    results = in_turn(trials, rounds)
    free = results.get("free", results["observed"])
    figures = {
        "meta_iteration": figure(SECONDS, [result.seconds for result in free]),
        "all_in": figure(STEP_RATE, [result.env_steps / result.seconds for result in free]),
    }
    kinds = ("acting", "stepping", "adaptation", "update")
    shares = {kind: [_share(kind, result) for result in results["observed"]] for kind in kinds}
    return figures | {kind: figure(SHARE, shares[kind]) for kind in kinds}


def bench_evaluation(experiment: Experiment, rounds: int) -> Figures:
    """Time adaptation curves on held-out tasks, as many as ``metarl evaluate`` takes by default."""
    parts = build(experiment)
    request = request_for(experiment, parts)
    tasks = parts.distribution.held_out(request.tasks)

    def run() -> float:
        return seconds(
            lambda: evaluate(experiment, parts, parts.agent, tasks, request.adaptations),
            experiment.device,
        )

    times = in_turn({"run": run}, rounds)["run"]
    rates = [request.tasks / duration for duration in times]
    return {"adaptation_curve": figure(SECONDS, times), "tasks": figure(TASK_RATE, rates)}


def bench_import(_experiment: Experiment, rounds: int) -> Figures:
    """Time the import of torch, and of metarl once torch is there, in fresh interpreters."""

    def fresh() -> tuple[float, float]:
        command = [sys.executable, "-P", "-c", _IMPORT]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        torch_s, metarl_s = map(float, done.stdout.split())
        return torch_s, metarl_s

    torch_s, metarl_s = zip(*in_turn({"fresh": fresh}, rounds)["fresh"], strict=True)
    return {"metarl": figure(SECONDS, metarl_s), "torch": figure(SECONDS, torch_s)}


PHASES: Mapping[PhaseName, Callable[[Experiment, int], Figures]] = {
    "sampling": bench_sampling,
    "update": bench_update,
    "iteration": bench_iteration,
    "evaluation": bench_evaluation,
    "import": bench_import,
}


class _Iterated(NamedTuple):
    """One meta-iteration: what it took, in all and by kind of call, and its env steps."""

    seconds: float
    env_steps: int
    by_kind: Mapping[str, float]


def _iterations(
    experiment: Experiment,
    parts: Parts,
    agent: Algorithm,
    take_seconds: Callable[[], dict[str, float]],
) -> Callable[[], _Iterated]:
    """Return a function that goes through one meta-iteration after the other."""
    endless = replace(experiment, iterations=2**31 - 1)
    streams = _streams(experiment)
    walk = meta_train(agent, parts.env, parts.distribution, endless, streams)

    def one() -> _Iterated:
        env_steps = 0

        def step() -> None:
            nonlocal env_steps
            env_steps = next(walk).env_steps

        take_seconds()
        duration = seconds(step, experiment.device)
        return _Iterated(duration, env_steps, take_seconds())

    return one


def _share(kind: str, result: _Iterated) -> float:
    if kind == "stepping":
        return max(0.0, 1.0 - sum(result.by_kind.values()) / result.seconds)
    return result.by_kind[kind] / result.seconds


def _without_policy(sampled: Round) -> dict[str, Trial]:
    """Return trials that step the environment, or the bare physics below it, without a policy."""
    env = sampled.parts.env
    if isinstance(env, MujocoEnv):
        return _raw_physics(env, sampled)
    spec, streams, num_tasks = env.spec, sampled.streams, len(sampled.tasks.task_id)
    noise = action_noise(spec, num_tasks, sampled.episodes, streams)
    actions = (noise * spec.action_size).long() if spec.discrete else noise
    running = torch.ones(actions.shape[:2], dtype=torch.bool, device=streams.device)

    def step_all() -> None:
        env.reset(sampled.tasks, sampled.episodes, streams.at("env"))
        for time in range(spec.horizon):
            env.step(actions[:, :, time], running)

    steps = running.numel() * spec.horizon
    return {"environment_alone": lambda: steps / seconds(step_all, streams.device)}


def _raw_physics(env: MujocoEnv, sampled: Round) -> dict[str, Trial]:
    """Return trials of the bare physics, in copies of its own that start where the round does."""
    recorded = record_physics(env, sampled)
    physics = env.copy_physics()
    low, high = physics.control_range
    drawn = np.random.default_rng(0).uniform(low, high, recorded.controls.shape)
    everywhere = recorded._replace(controls=drawn, running=np.ones_like(recorded.running))
    return {
        "raw_random_controls": _physics_trial(physics, everywhere),
        "raw_policy_controls": _physics_trial(physics, recorded),
    }


def _physics_trial(physics: BatchPhysics, recorded: PhysicsRound) -> Trial:
    steps = int(recorded.running.sum())
    return lambda: steps / seconds(lambda: replay(physics, recorded), "cpu")


def _streams(experiment: Experiment) -> Streams:
    return Streams(0, ("bench",), device=experiment.device)
