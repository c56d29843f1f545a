"""Reptile over learners of Stable-Baselines3 (Nichol, Achiam and Schulman 2018, algorithm 1).

The letters are those of ``metarl.agents.reptile``. U_tau^k(phi) is what the user's own PPO, A2C or
other on-policy algorithm makes of phi on a ``TaskVecEnv`` all of whose copies have the task tau; k
counts its rollouts, each with the training that follows it. All parameters of its policy take part,
those of the value function too. Tasks come one after the other, as SB3 learns one at a time.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from metarl import trees
from metarl.annealing import AnnealedOptimizer, OuterStepConfig
from metarl.checkpoint import Checkpoint, latest_checkpoint, save_checkpoint
from metarl.checks import COUNT, COUNT_OR_ZERO, SEED, InputError, check_fields
from metarl.envs.sb3 import TaskVecEnv
from metarl.envs.task_dicts import TaskDict
from metarl.seeding import Streams
from metarl.statistics import FloatArray
from metarl.trainer import Iteration
from metarl.types import Params


@dataclass(frozen=True, kw_only=True)
class Sb3ReptileConfig(OuterStepConfig):
    """How Reptile goes about its tasks; what happens within one is the learner's own affair."""

    tasks_per_update: int = 1
    """n, tasks of an outer step; 1 is the serial version."""
    rollouts: int = 2
    """k, the learner's rollouts on a task, of ``n_steps`` steps in every copy."""
    seed: int = 1
    """Seed of the tasks, and of all that the learner draws."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, {"tasks_per_update": COUNT, "rollouts": COUNT, "seed": SEED})


class Sb3Reptile:
    """Owns phi and the outer optimiser; borrows a model of SB3, whose weights it overwrites.

    What is drawn on a task is a function of the seed, the meta-iteration and the task's slot: the
    model is given a seed for each. (SB3 draws from the global generators of torch and numpy, and
    leaves them where they then are.) So two models with the same arguments learn the same, and a
    restored one goes on as if nothing had happened.

    Args:
        model: an on-policy algorithm on a ``TaskVecEnv`` that draws training tasks, which may be
            wrapped. Its logger is silenced, since it would log each task from step 0 on.
        config: see there.

    Raises:
        InputError: the model is off-policy, on another environment, or keeps from task to task what
            Reptile knows nothing of.
    """

    def __init__(self, model: OnPolicyAlgorithm, config: Sb3ReptileConfig) -> None:
        self.model, self.config = model, config
        self._env = _task_env(model)
        self._streams = Streams(config.seed, ("reptile-sb3",))
        self.outer = AnnealedOptimizer(self._weights(), config)
        self.iteration, self.env_steps = 0, 0
        model.set_logger(Logger(None, []))

    def train(self, iterations: int) -> Iterator[Iteration]:
        """Take outer steps until there were so many, one for each item that is asked for.

        Metrics are the norm of mean_i (phi - U_i(phi)), the step size, whether the step was left
        out, as it is where that mean is not finite, and, where the environment is wrapped in SB3's
        ``VecMonitor``, the mean return of the episodes that ended on the tasks.
        """
        for number in range(self.iteration, iterations):
            phi = self.outer.weights()
            offsets, returns = [], []
            for slot, task in enumerate(self.draw_tasks(number)):
                self.begin(task)
                self.learn(number, slot)
                learned = self._weights()
                offsets.append({name: phi[name] - leaf for name, leaf in learned.items()})
                returns += [episode["r"] for episode in self.model.ep_info_buffer or ()]
            total = trees.sum_over_tasks(
                {name: torch.stack([offset[name] for offset in offsets]) for name in phi}
            )
            mean = {name: (leaf / len(offsets)).to(phi[name]) for name, leaf in total.items()}
            metrics = self.outer.step_if_finite(mean)
            steps = self.model.num_timesteps * len(offsets)
            self.iteration, self.env_steps = number + 1, self.env_steps + steps
            if returns:
                metrics["rollout/ep_rew_mean"] = float(np.mean(returns))
            yield Iteration(self.iteration, steps, metrics)

    def begin(self, task: Mapping[str, Any]) -> None:
        """Put the model before a task it has never met: phi, and an optimiser without memory."""
        self._env.set_tasks([task])
        with torch.no_grad():
            for name, leaf in self.model.policy.named_parameters():
                leaf.copy_(self.outer.params[name])
        self.model.policy.optimizer.state.clear()

    def learn(self, iteration: int, slot: int) -> None:
        """Let the model learn its task, with what is drawn there in training."""
        self._adapt(self._streams.at("train", iteration, "task", slot))

    def draw_tasks(self, iteration: int) -> list[TaskDict]:
        """Return the training tasks of a meta-iteration, counted from 0."""
        # Tasks that the environment draws follow from the seed of its last reset.
        self._env.seed(_seed(self._streams.at("train", iteration, "tasks")))
        self._env.reset()
        return self._env.sample_tasks(self.config.tasks_per_update)

    def held_out_tasks(self, num_tasks: int) -> list[TaskDict]:
        """Return the first tasks of the environment's frozen list.

        Raises:
            InputError: the list is shorter.
        """
        return self._env.held_out_tasks(num_tasks)

    def evaluate(
        self,
        tasks: Sequence[Mapping[str, Any]],
        adaptations: int = 1,
        *,
        deterministic: bool = False,
    ) -> FloatArray:
        """Score the policy on each task after 0, 1, ..., N adaptations of ``rollouts`` each.

        Scores are the mean returns of one episode of each copy, by SB3's ``evaluate_policy``; the
        learner does not see these episodes. phi stays, and so does the course of training.

        Args:
            tasks: such as ``held_out_tasks`` of the environment returns.
            adaptations: N. The optimiser's memory stays from one to the next.
            deterministic: whether to score the mean action instead of drawn ones.

        Returns:
            [K, N + 1], for ``metarl.statistics.summarise_curve`` with an axis of runs before.
        """
        if not COUNT_OR_ZERO.accepts(adaptations):
            raise InputError([f"adaptations must be {COUNT_OR_ZERO.text}, got {adaptations!r}"])
        env, scores = self.model.get_env(), np.empty((len(tasks), adaptations + 1))
        assert env is not None
        for slot, task in enumerate(tasks):
            here = self._streams.at("evaluate", slot)
            self.begin(task)
            for number in range(adaptations + 1):
                if number:
                    self._adapt(here.at("learn", number))
                self.model.set_random_seed(_seed(here.at("score", number)))
                scores[slot, number], _ = evaluate_policy(
                    self.model,
                    env,
                    n_eval_episodes=env.num_envs,
                    deterministic=deterministic,
                    warn=False,
                )
        return scores

    def save(self, folder: Path, keep: int = 3) -> Path:
        """Write a checkpoint (safetensors and JSON) of this meta-iteration; return its folder."""
        return save_checkpoint(
            folder, Checkpoint(self.iteration, self.outer.state_dict(), self._identity()), keep
        )

    def restore(self, folder: Path) -> bool:
        """Go on from the newest good checkpoint; return whether there is one.

        Raises:
            InputError: it is of another algorithm or configuration, or of other weights.
            ValueError: there are checkpoints, and none of them is good.
        """
        found = latest_checkpoint(folder, lambda text: warnings.warn(text, stacklevel=3))
        if found is None:
            return False
        mine, saved = self._identity(), found.state
        lines = [
            f"{folder}: {name} was {saved.get(name)!r}, here it is {mine[name]!r}"
            for name in mine
            if name != "env_steps" and saved.get(name) != mine[name]
        ]
        if lines:
            raise InputError(lines)
        self.outer.load_state_dict(found.tensors, type(self).__name__)
        self.iteration, self.env_steps = found.iteration, int(str(saved["env_steps"]))
        return True

    def _identity(self) -> dict[str, object]:
        learner = type(self.model).__name__
        return {"learner": learner, "env_steps": self.env_steps, **asdict(self.config)}

    def _adapt(self, streams: Streams) -> None:
        """Let the model learn from fresh episodes of its task."""
        self.model.set_random_seed(_seed(streams))
        self.model.learn(self.config.rollouts * self.model.n_steps * self._env.num_envs)

    def _weights(self) -> Params:
        named = self.model.policy.named_parameters()
        return {name: leaf.detach().clone() for name, leaf in named}


def _task_env(model: OnPolicyAlgorithm) -> TaskVecEnv:
    """Return the environment below a model's wrappers; refuse what cannot be met task by task."""
    if not isinstance(model, OnPolicyAlgorithm):
        known = "an on-policy algorithm of Stable-Baselines3, such as PPO or A2C"
        raise InputError(
            [f"model must be {known}, got {type(model).__name__}: a replay buffer mixes tasks"]
        )
    env = model.get_env()
    inner = None if env is None else env.unwrapped
    lines = []
    if not isinstance(inner, TaskVecEnv):
        came = "none" if inner is None else type(inner).__name__
        lines.append(f"the model's environment must be a TaskVecEnv, wrapped or not; got {came}")
    if model.get_vec_normalize_env() is not None:
        lines.append("VecNormalize keeps statistics from task to task: leave it out")
    buffers = [name for name, _ in model.policy.named_buffers()]
    if buffers:
        lines.append(f"the policy keeps {', '.join(buffers)} from task to task beside its weights")
    if lines or not isinstance(inner, TaskVecEnv):
        raise InputError(lines)
    return inner


def _seed(streams: Streams) -> int:
    """Return a seed below 2^32, all that numpy's global generator takes."""
    high, low = (streams.uniform("seed", 1, (2,))[0] * 2.0**16).long().tolist()
    return int(high * 2**16 + low)
