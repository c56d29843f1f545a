"""The MJCF door: tasks from a MuJoCo model, a reward, and what differs from task to task.

Task. One parameter for each ``Goal``, under its name, which the reward reads; and one for each
``Vary``, under ``element.field``, which is written into the copy's model before its start. Each is
drawn from U[low, high], independently. Where one of them has ``shifted``, there is a split of that
name, in which it is drawn from there.

Observation. All of ``qpos`` and ``qvel``, unless ``observe`` says otherwise.

Action. One number for each motor of the model; in [-1, 1], from the motor's lowest control to its
highest. Every motor needs a ``ctrlrange``.

Reward, end. The user's, as functions of arrays with one row per copy; see ``Body`` and ``Moved`` in
``metarl.envs.mujoco_env``.

Start. The model's own pose, and ``noise`` around it.

``docs/templates/cart_pole.py`` is an example.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from metarl.checks import COUNT, Allowed, InputError, check_fields
from metarl.envs import Shows
from metarl.envs.mujoco_env import Array, Body, Flags, Moved, MujocoEnv, Noise, Parameters
from metarl.envs.physics import BatchPhysics
from metarl.envs.task_lists import EndlessTasks
from metarl.seeding import Streams
from metarl.types import EnvSpec, Parameter

_LARGEST = 1e6
_NOISE = Noise(position=0.01, velocity=0.01)
_NUMBER = Allowed(-_LARGEST, _LARGEST, "a number from -1e6 to 1e6")


@dataclass(frozen=True)
class Goal:
    """A number that the reward depends on and that the copy does not see."""

    name: str
    """Its name among the task's parameters."""
    _: KW_ONLY
    low: float
    """Tasks are drawn from here ..."""
    high: float
    """... to here."""
    unit: str = ""
    """Such as ``rad`` or ``m/s``."""
    text: str = "what the reward asks for"
    """What it is, in a few words."""
    shifted: tuple[float, float] | None = None
    """From where to where it lies in the split ``shifted``; as in training where left out."""

    def __post_init__(self) -> None:
        _check_range(self)


@dataclass(frozen=True)
class Vary:
    """What differs in the model from task to task, for one element that has a name in the MJCF."""

    field: str | tuple[str, ...]
    """A field of MuJoCo's model, such as ``body_mass``, or several that are changed alike."""
    element: str
    """Name of the body, joint, geom, ... that it belongs to; of the joint for ``dof_`` fields."""
    _: KW_ONLY
    low: float
    """Tasks are drawn from here ..."""
    high: float
    """... to here."""
    absolute: bool = False
    """Whether it is the value itself, instead of what the model's own value is multiplied by."""
    unit: str = ""
    """Of an absolute value."""
    shifted: tuple[float, float] | None = None
    """From where to where it lies in the split ``shifted``; as in training where left out."""

    def __post_init__(self) -> None:
        _check_range(self)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that are changed."""
        return (self.field,) if isinstance(self.field, str) else self.field

    @property
    def name(self) -> str:
        """The name among the task's parameters."""
        return f"{self.element}.{self.fields[0]}"

    @property
    def text(self) -> str:
        """What it is, in a few words."""
        kind = "value" if self.absolute else "factor"
        return f"{kind} of {' and '.join(self.fields)} of {self.element}"


def positions(physics: BatchPhysics) -> Array:
    """Return all of ``qpos``, [N, nq]: what is measured by default."""
    position: Array = physics.qpos.copy()
    return position


def positions_and_velocities(physics: BatchPhysics) -> Sequence[Array]:
    """Return ``qpos`` [N, nq] and ``qvel`` [N, nv]: the observation by default."""
    return physics.qpos, physics.qvel


@dataclass(frozen=True, kw_only=True)
class FromMjcf:
    """Tasks made of a MuJoCo model.

    Raises:
        InputError: on creation: MuJoCo cannot compile the model, a motor has no range, or there is
            no such field or element; the message holds the nearest name.
    """

    name: str
    """Such as ``my/CartPole-v0``."""
    xml: str | Path
    """The model, as MJCF: its text, or a file."""
    reward: Callable[[Moved], Array]
    """Returns the reward [N] of one step."""
    horizon: int
    """Steps of an episode."""
    substeps: int
    """Simulator steps of one environment step."""
    vary: tuple[Vary, ...] = ()
    """What of the model differs from task to task."""
    goals: tuple[Goal, ...] = ()
    """What else differs, and is for the reward to read."""
    noise: Noise = _NOISE
    """How starts differ from the model's own pose."""
    observe: Callable[[BatchPhysics], Sequence[Array]] = positions_and_velocities
    """Returns the parts [N, ...] of the observation."""
    measure: Callable[[BatchPhysics], Array] = positions
    """Returns what ``Moved.before`` and ``Moved.after`` hold; a copy, not a view."""
    unhealthy: Callable[[BatchPhysics], Flags] | None = None
    """Returns [N]: whose episode ends here. None where none ever does."""
    success: Callable[[Moved], Flags] | None = None
    """Returns [N]: who is at the goal, where there is one."""
    arrange: Callable[[Array, Array, Parameters], None] | None = None
    """Changes starts ``qpos`` [N, nq] and ``qvel`` [N, nv] in place, to suit the tasks."""

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.entries]
        twice = sorted({name for name in names if names.count(name) > 1})
        check_fields(
            self,
            {"horizon": COUNT, "substeps": COUNT},
            None if names else "FromMjcf: without vary and goals there is only one task",
            f"FromMjcf: {', '.join(twice)} is there twice" if twice else None,
        )
        self._build_env("cpu", 1)

    @property
    def shows(self) -> Shows:
        """Where a task shows itself: in the dynamics where the model varies."""
        return "dynamics" if self.vary else "rewards"

    @property
    def entries(self) -> tuple[Goal | Vary, ...]:
        """Everything that differs from task to task."""
        return (*self.goals, *self.vary)

    def build(self, device: str, threads: int) -> tuple[EndlessTasks, MujocoEnv]:
        """Build the distribution and the environment."""
        usual = {entry.name: (entry.low, entry.high) for entry in self.entries}
        shifted = {entry.name: entry.shifted for entry in self.entries if entry.shifted}
        tasks = EndlessTasks(
            self.name,
            partial(_draw, ranges=usual),
            device,
            {entry.name: _about(entry) for entry in self.entries},
            partial(_draw, ranges=usual | shifted) if shifted else None,
        )
        return tasks, self._build_env(device, threads)

    def _build_env(self, device: str, threads: int) -> MujocoEnv:
        physics = BatchPhysics(self.xml, 1, self.substeps, 1)
        for entry in self.vary:
            _refuse_unfit(physics, entry)
        body = Body(
            xml=self.xml,
            substeps=self.substeps,
            noise=self.noise,
            observe=self.observe,
            measure=self.measure,
            reward=self.reward,
            unhealthy=self.unhealthy,
            success=self.success,
            arrange=self.arrange,
            vary=partial(_write, vary=self.vary) if self.vary else None,
        )
        spec = EnvSpec(
            self.name,
            observation_size=sum(part.shape[1] for part in self.observe(physics)),
            action_size=physics.ctrl.shape[1],
            discrete=False,
            horizon=self.horizon,
            score_is_total=False,
        )
        names = [entry.name for entry in self.entries]
        return MujocoEnv(spec, body, names, device, threads)


def _check_range(entry: Goal | Vary) -> None:
    owner, shifted = type(entry).__name__, entry.shifted
    check_fields(entry, {"low": _NUMBER, "high": _NUMBER})
    fits = shifted is None or (
        len(shifted) == 2 and all(map(_NUMBER.accepts, shifted)) and shifted[0] < shifted[1]
    )
    check_fields(
        entry,
        {},
        None
        if entry.low < entry.high
        else f"{owner} {entry.name}: low must be below high, got {entry.low} and {entry.high}",
        None
        if fits
        else f"{owner} {entry.name}: shifted must be two numbers, the lower first; got {shifted!r}",
    )


def _refuse_unfit(physics: BatchPhysics, entry: Vary) -> None:
    """Refuse what the model has not, and one value for a field of many."""
    for field in entry.fields:
        rows = physics.rows_of(field, entry.element)
        numbers = physics.nominal(field)[rows].size
        if entry.absolute and numbers != 1:
            raise InputError(
                [
                    f"Vary {entry.name}: {field} of {entry.element} is {numbers} numbers;"
                    " an absolute value is for one, a factor for any"
                ]
            )


def _about(entry: Goal | Vary) -> Parameter:
    """Describe a parameter, over all splits."""
    low, high = entry.shifted or (entry.low, entry.high)
    return Parameter(entry.text, entry.unit, (), min(low, entry.low), max(high, entry.high))


def _draw(
    num_tasks: int, streams: Streams, ranges: Mapping[str, tuple[float, float]]
) -> dict[str, Tensor]:
    # In float64, rounded once: float32 could round the sum beyond the range.
    return {
        name: (low + streams.uniform(name, num_tasks, ()).double() * (high - low)).float()
        for name, (low, high) in ranges.items()
    }


def _write(physics: BatchPhysics, parameters: Parameters, vary: Sequence[Vary]) -> None:
    """Write each copy's own values of what varies; a factor of 1 leaves the model as it is."""
    for entry in vary:
        for field in entry.fields:
            values, rows = physics.expand(field), physics.rows_of(field, entry.element)
            number = parameters[entry.name].reshape(-1, *[1] * (values.ndim - 1))
            own = 1.0 if entry.absolute else physics.nominal(field)[rows]
            values[:, rows] = np.broadcast_to(number * own, values[:, rows].shape)
    physics.set_constants()
