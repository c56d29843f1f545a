"""The contracts between the core, the environments and the agents."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metarl.seeding import Streams
from metarl.types import (
    Acted,
    Adapted,
    EnvSpec,
    Metrics,
    Outcome,
    Parameter,
    Step,
    Tasks,
    Trajectories,
)


@runtime_checkable
class TaskDistribution(Protocol):
    """Where tasks come from: a training stream, and frozen held-out lists by the name of a split.

    Every distribution has the split ``test``, drawn as training tasks are but disjoint from them,
    unless there are so few tasks that all are enumerated. ``shifted``, where there is one, lies
    outside of what training draws from.
    """

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """What each parameter of a task may be, over all splits."""
        ...

    @property
    def held_out_lists(self) -> Mapping[str, int | None]:
        """Lengths of the frozen lists by split; None for one that goes on as far as anyone asks."""
        ...

    def sample(self, num_tasks: int, streams: Streams) -> Tasks:
        """Draw K training tasks; the draw of slot k depends on the streams and k alone."""
        ...

    def held_out(self, num_tasks: int, split: str = "test") -> Tasks:
        """Return the first K tasks of a frozen list, the same for every seed and version.

        Raises:
            ValueError: there is no such split, or its list is shorter than ``num_tasks``.
        """
        ...


@runtime_checkable
class VectorTaskEnv(Protocol):
    """E copies of each of K tasks, stepped together. Owns the state of the copies.

    Nothing resets itself: a copy whose episode has ended is no longer stepped until ``reset``.
    """

    @property
    def spec(self) -> EnvSpec:
        """What an agent must know before it meets the environment."""
        ...

    @property
    def threads(self) -> int:
        """Host threads that ``step`` keeps busy by itself; 1 for environments made of tensors."""
        ...

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        """Start E episodes of each task and draw all noise of the round; return obs [K, E, O]."""
        ...

    def step(self, action: Tensor, running: Tensor) -> Step:
        """Apply actions [K, E, A] (or [K, E] int64) to the copies with ``running`` [K, E] bool.

        The tensors of the result are the caller's to keep: no later step writes into them.
        """
        ...


@runtime_checkable
class HasLanes(VectorTaskEnv, Protocol):
    """An environment that steps on threads of its own while its caller does something else.

    Its lanes are of its kind and share its threads: the sampler acts in one while others step, and
    none waits at every step for the slowest copy of another.
    """

    @property
    def lanes(self) -> Sequence["HasLanes"]:
        """Environments for shares of the tasks, which may step at the same time; or none."""
        ...

    def start_step(self, action: Tensor, running: Tensor) -> None:
        """Begin what ``step`` does, and return at once."""
        ...

    def finish_step(self) -> Step:
        """Wait for the step that was begun, and return what it led to.

        Raises:
            RuntimeError: none was begun.
        """
        ...


@runtime_checkable
class CanRestart(VectorTaskEnv, Protocol):
    """An environment in which some copies may start again while the others go on."""

    def restart(self, copies: Tensor, streams: Streams) -> Tensor:
        """Start a new episode of the same tasks in ``copies`` [K, E] bool; return obs [K, E, O].

        The observations of the other copies are those that they had.
        """
        ...


@runtime_checkable
class CanDraw(VectorTaskEnv, Protocol):
    """An environment that can be looked at."""

    def picture(self, task: int, episode: int) -> NDArray[np.uint8]:
        """Draw one copy as it is now, its hidden goal included: [height, width, 3] RGB."""
        ...


@runtime_checkable
class CanDrawPaths(CanDraw, Protocol):
    """An environment in whose pictures one sees where a copy has been."""

    def place(self, task: int, episode: int) -> NDArray[np.float64]:
        """Return where a copy is now, in the coordinates of the environment's paths."""
        ...

    def picture(
        self, task: int, episode: int, path: Sequence[NDArray[np.float64]] = ()
    ) -> NDArray[np.uint8]:
        """Draw one copy, and the way that it took through earlier places to where it is."""
        ...


@runtime_checkable
class CanClose(VectorTaskEnv, Protocol):
    """An environment that may hold more than memory, such as a graphics context."""

    def close(self) -> None:
        """Let go of it; what is asked for later takes it anew."""
        ...


class Amounts(Protocol):
    """How much is collected for each meta-update, as ``metarl.trainer.TrainConfig`` says it."""

    @property
    def tasks_per_update(self) -> int:
        """K, tasks."""
        ...

    @property
    def episodes(self) -> int:
        """E, episodes of each task in each round."""
        ...

    @property
    def adaptations(self) -> int:
        """N; there are N + 1 rounds."""
        ...


@runtime_checkable
class NeedsAmounts(Protocol):
    """A config of an agent that cannot learn what it is for from every amount of experience."""

    def fault_with(self, amounts: Amounts) -> str | None:
        """Say what is wrong with so much, by the names of the fields; None where nothing is."""
        ...


class Adapter(Protocol):
    """What acts in tasks and adapts to them: all that sampling and evaluating ask of an agent."""

    def begin(self, num_tasks: int, episodes: int) -> Adapted:
        """Return what the agent knows of K tasks that it has never met."""
        ...

    def act(self, adapted: Adapted, obs: Tensor, noise: Tensor) -> Acted:
        """Decide for obs [K, E, O]; noise is standard normal [K, E, A], or uniform [K, E]."""
        ...

    def adapt(self, adapted: Adapted, batch: Trajectories) -> Adapted:
        """Learn from one round of each task: a pure function, all K tasks in one call."""
        ...


class Algorithm(Adapter, Protocol):
    """A meta-learner. ``adapt`` serves acting, learning and meta-testing alike."""

    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        """Learn across tasks; ``rounds[i]`` was collected after i adaptations."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that the next ``meta_update`` depends on."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over a state; raise ValueError when names or shapes differ."""
        ...


@runtime_checkable
class HasMemory(Algorithm, Protocol):
    """A meta-learner that learns of its tasks while it acts, by what it remembers of every step.

    Each of the E copies of a task is a trial of its own: none knows what another has met, and all
    rounds of a meta-iteration are episodes of the same trials. A round scores by the mean over
    them, also where the field adds up the episodes of one learner.
    """

    def remember(self, before: Adapted, acted: Acted, outcome: Outcome) -> Adapted:
        """Return what is known after a step: a pure function.

        A copy remembers a step only where it counts; that its episode has ended, it always learns.

        Args:
            before: what was known when ``act`` was called.
            acted: what ``act`` returned; its ``adapted`` is known where the step counts.
            outcome: what the environment made of it.
        """
        ...
