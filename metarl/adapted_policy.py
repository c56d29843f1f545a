"""A policy that has adapted to one task, as an object to keep: it acts, adapts on, and is saved.

``metarl.experiments.adapt`` makes one from an agent and an environment, or from a run. It acts as a
policy of Stable-Baselines3 does, so that ``evaluate_policy`` of that library takes it.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metarl.checks import COUNT, InputError
from metarl.kept_policy import KeptPolicy, Made, read_policy, write_policy
from metarl.policies import ActsByPolicy
from metarl.policy_export import PolicyModule, export
from metarl.protocols import VectorTaskEnv
from metarl.sampler import collect, collect_in_turn, scores
from metarl.seeding import Streams
from metarl.types import ActionRange, Adapted, Tasks

State: TypeAlias = tuple[NDArray[Any], ...]
"""What a policy with memory carries from one decision to the next: arrays [n, ...]."""

_ROWS_OF_NOISE = 1024


class Place(NamedTuple):
    """Who adapts, where, and to which task."""

    agent: ActsByPolicy
    env: VectorTaskEnv
    tasks: Tasks
    """Of length 1."""
    in_turn: bool
    """Whether the environment is a single copy, whose episodes come one after the other."""
    action_range: ActionRange | None
    """In which the policy's users give actions; None for choices."""


class AdaptedPolicy:
    """A policy for one task. Owns its weights, and what the agent knows of the task.

    It decides on the present observation alone. An agent with memory would put its memory where
    ``predict`` has ``state``: at first that which its episodes of adaptation have left, kept over
    ``episode_start``, since in a trial memory outlives an episode.
    """

    def __init__(
        self, kept: KeptPolicy, made: Made, known: tuple[Place, Adapted] | None = None
    ) -> None:
        self._kept, self.made, self._known = kept, made, known
        self._streams = Streams(made.seed, ("adapted policy",))
        self._noise, self._num_draws = torch.zeros(0), 0

    @classmethod
    def in_place(cls, place: Place, made: Made) -> Self:
        """Return the policy of an agent that knows nothing of the task yet."""
        adapted = place.agent.begin(1, 1)
        return cls(_policy_of(place, adapted), made, (place, adapted))

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Load what ``save`` wrote: a policy that acts as it did, and cannot adapt.

        Raises:
            BrokenFileError, InputError: as ``kept_policy.read_policy``.
        """
        return cls(*read_policy(Path(folder)))

    @property
    def kept(self) -> KeptPolicy:
        """Network, weights, sizes and range of actions."""
        return self._kept

    def predict(
        self,
        observation: NDArray[Any],
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Decide as policies of Stable-Baselines3 do.

        Args:
            observation: [O], or [n, O] of n copies.
            state: returned as it came: this policy has no memory.
            episode_start: [n], of no effect without memory.
            deterministic: the likeliest action instead of one that is drawn.

        Returns:
            Actions [A], or [n, A], within the range that they are given in; or choices [] or [n].

        Raises:
            InputError: the observation has another shape.
        """
        obs, size = np.asarray(observation, dtype=np.float32), self._kept.spec.observation_size
        if obs.ndim not in (1, 2) or obs.shape[-1] != size:
            need = f"[{size}] or [n, {size}]"
            raise InputError([f"{self._kept.spec.name}: obs must be {need}, got {obs.shape}"])
        rows = torch.from_numpy(obs).reshape(-1, size)
        with torch.no_grad():
            action = self._kept.decide(rows, None if deterministic else self._next_noise(len(rows)))
        result: NDArray[Any] = action.numpy()
        return (result.squeeze(0) if obs.ndim == 1 else result), state

    def adapt(self, episodes: int) -> float:
        """Explore the task for some episodes, then take one step of adaptation, from what it knows.

        Returns:
            The score of these episodes, before the step (``sampler.scores``).

        Raises:
            RuntimeError: this policy was loaded, without its agent and its environment.
            InputError: ``episodes`` is no whole number >= 1.
        """
        if not COUNT.accepts(episodes):
            raise InputError([f"episodes must be {COUNT.text}, got {episodes!r}"])
        place, adapted = self._where("adapt")
        meet = collect_in_turn if place.in_turn else collect
        streams = self._streams.at("round", len(self.made.episodes))
        streams = streams._replace(device=_device_of(adapted))
        batch, adapted = meet(place.env, place.tasks, place.agent, adapted, episodes, streams)
        with torch.no_grad():
            adapted = place.agent.adapt(adapted, batch)
        self._kept, self._known = _policy_of(place, adapted), (place, adapted)
        score = float(scores(batch, place.env.spec))
        rounds = (*self.made.episodes, episodes), (*self.made.scores, score)
        self.made = dataclasses.replace(self.made, episodes=rounds[0], scores=rounds[1])
        return score

    def reset_adaptation(self) -> None:
        """Go back to what the agent knew before it met the task; the same adaptation may follow.

        Raises:
            RuntimeError: this policy was loaded, without its agent.
        """
        place, _ = self._where("reset_adaptation")
        adapted = place.agent.begin(1, 1)
        self._kept, self._known = _policy_of(place, adapted), (place, adapted)
        self.made = dataclasses.replace(self.made, episodes=(), scores=())

    def save(self, folder: Path | str) -> None:
        """Write ``policy.safetensors`` and ``policy.json`` into a folder, made where there is none.

        Raises:
            BrokenFileError, StorageError: as ``kept_policy.write_policy``.
        """
        write_policy(Path(folder), self._kept, self.made)

    def to_module(self) -> nn.Module:
        """Return a module that turns obs [n, O] into what ``predict`` calls deterministic."""
        return PolicyModule(self._kept)

    def export(self, path: Path | str) -> None:
        """Write that module as TorchScript (``.pt``) or ONNX (``.onnx``).

        Raises:
            InputError, StorageError: as ``policy_export.export``.
        """
        export(self._kept, Path(path))

    def _next_noise(self, rows: int) -> Tensor:
        if len(self._noise) < rows:
            # Many at once: drawing costs more than acting.
            number, spec = max(rows, _ROWS_OF_NOISE), self._kept.spec
            here = self._streams.at("predict", self._num_draws)
            self._num_draws += 1
            if spec.discrete:
                self._noise = here.uniform("action", 1, (number,))[0]
            else:
                self._noise = here.normal("action", 1, (number, spec.action_size))[0]
        noise, self._noise = self._noise[:rows], self._noise[rows:]
        return noise

    def _where(self, asked: str) -> tuple[Place, Adapted]:
        if self._known is None:
            raise RuntimeError(
                f"{asked}: this policy was loaded without its agent ({self.made.agent}) and without"
                " an environment; metarl.experiments.adapt makes one that has both"
            )
        return self._known


def _policy_of(place: Place, adapted: Adapted) -> KeptPolicy:
    policy, stacked = place.agent.acting_policy(adapted)
    params = {name: leaf[0].detach().cpu().clone() for name, leaf in stacked.items()}
    return KeptPolicy(policy, params, place.env.spec, place.action_range)


def _device_of(adapted: Adapted) -> str:
    return str(next(iter(adapted.values())).device)
