"""A policy that has adapted to one task, as an object to keep: it acts, adapts on, and is saved.

``metarl.experiments.adapt`` makes one from an agent and an environment, or from a run. It acts as a
policy of Stable-Baselines3 does, so that ``evaluate_policy`` of that library takes it.

That library tells a policy no rewards, which one with memory must know. They come as one more entry
at the end of each observation: ``metarl.envs.tells_reward.TellsReward`` puts them there.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metarl.acting import ActsByPolicy, Moment
from metarl.checks import COUNT, InputError
from metarl.kept_policy import KeptPolicy, Made, read_policy, write_policy
from metarl.policy_export import PolicyModule, export
from metarl.protocols import HasMemory, VectorTaskEnv
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
    """Whether episodes come one after the other: to a single copy, or through one memory."""
    action_range: ActionRange | None
    """In which the policy's users give actions; None for choices."""


class AdaptedPolicy:
    """A policy for one task. Owns its weights, and what the agent knows of the task.

    Of an agent with memory it is one trial: adapting plays its episodes, one after the other, and
    whoever calls ``predict`` plays the next ones, from where adaptation has left the memory. No
    start of an episode resets that. Other agents' policies decide on the observation alone.
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
            observation: [O], or [n, O] of n copies; with a memory, the reward of the last step is
                one more entry at the end.
            state: what the last call returned; None at the first decisions after adaptation. There,
                whatever else is told, the last reward is that which adaptation has left.
            episode_start: [n], where an episode begins; nowhere if left out. A memory hears of it
                and stays.
            deterministic: the likeliest action instead of one that is drawn.

        Returns:
            Actions [A], or [n, A], within the range that they are given in; or choices [] or [n].
            And the state after them: memory [n, H] and last action [n, A], in the agent's own
            units, or one-hot; None where there is no memory.

        Raises:
            InputError: the observation, state or episode_start has another shape.
        """
        obs, size = np.asarray(observation, dtype=np.float32), self._kept.policy.shown_size
        if obs.ndim not in (1, 2) or obs.shape[-1] != size:
            needed = f"[{size}] or [n, {size}]"
            if size > self._kept.spec.observation_size:
                needed += ", the last entry being the reward of the last step"
                needed += " (metarl.envs.tells_reward.TellsReward)"
            raise InputError([f"{self._kept.spec.name}: obs must be {needed}; got {obs.shape}"])
        rows = torch.from_numpy(obs).reshape(-1, size)
        moment = self._kept.first(rows)
        if state is not None:
            moment = self._going_on(rows, state, episode_start)
        with torch.no_grad():
            noise = None if deterministic else self._next_noise(len(rows))
            action, carried = self._kept.decide(moment, noise)
        result: NDArray[Any] = action.numpy()
        after = tuple(leaf.numpy() for leaf in carried)
        return (result.squeeze(0) if obs.ndim == 1 else result), after or None

    def adapt(self, episodes: int) -> float:
        """Explore the task for some episodes, then take one step of adaptation, from what it knows.

        An agent with memory learns as it goes through them, and takes no step.

        Returns:
            The score of these episodes, before the step (``sampler.scores``); with a memory, their
            mean in any case.

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
        by_episode = isinstance(place.agent, HasMemory)
        score = float(scores(batch, place.env.spec, separate_trials=by_episode))
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
        """Return a module that decides as ``predict`` does when it is deterministic.

        Its inputs and results are those of ``metarl.policy_export``.
        """
        return PolicyModule(self._kept)

    def export(self, path: Path | str) -> None:
        """Write that module as TorchScript (``.pt``) or ONNX (``.onnx``).

        Raises:
            InputError, StorageError: as ``policy_export.export``.
        """
        export(self._kept, Path(path))

    def _going_on(
        self, rows: Tensor, state: State, episode_start: NDArray[np.bool_] | None
    ) -> Moment:
        """Return the moment of decisions that are not the first, at what is shown [n, S]."""
        n = len(rows)
        begun = np.zeros(n, bool) if episode_start is None else np.asarray(episode_start)
        came = [np.shape(array) for array in (begun, *state)]
        need = [(n,), *((n, size) for size in self._kept.policy.carried_sizes.values())]
        if came != need:
            text = f"episode_start and state must be {need}, got {came}"
            raise InputError([f"{self._kept.spec.name}: {text}"])
        carried = (torch.tensor(array, dtype=torch.float32) for array in state)
        return Moment(rows, torch.tensor(begun), tuple(carried))

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
