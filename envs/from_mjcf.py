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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from metarl.checks import COUNT, InputError, check_fields
from metarl.envs import Shows
from metarl.envs.body_checks import side_by_side
from metarl.envs.mjcf_tasks import Goal, Vary, about, draw, refuse_unfit, write
from metarl.envs.mujoco_env import Array, Body, Flags, Moved, MujocoEnv, Noise, Parameters
from metarl.envs.mujoco_renderer import Marker, View
from metarl.envs.physics import BatchPhysics
from metarl.envs.task_lists import EndlessTasks
from metarl.seeding import Streams
from metarl.types import EnvSpec

__all__ = ["FromMjcf", "Goal", "Noise", "Vary", "positions", "positions_and_velocities"]

_VIEW = View()
_NOISE = Noise(position=0.01, velocity=0.01)
_COPIES = 3
"""How many copies the user's functions are tried on: a mistake of shapes shows with a few."""


def positions(physics: BatchPhysics) -> Array:
    """Return all of ``qpos``, [N, nq]: what is measured by default."""
    return physics.qpos


def positions_and_velocities(physics: BatchPhysics) -> Sequence[Array]:
    """Return ``qpos`` [N, nq] and ``qvel`` [N, nv]: the observation by default."""
    return physics.qpos, physics.qvel


@dataclass(frozen=True, kw_only=True)
class FromMjcf:
    """Tasks made of a MuJoCo model.

    On creation the model is compiled, and each of the functions is called on a few copies.

    Raises:
        InputError: MuJoCo cannot compile the model, there is no motor or one has no range, or there
            is no such field or element; the message holds the nearest name.
        EnvFaultError: a function raised, or returned something else than it must.
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
    """Returns what ``Moved.before`` and ``Moved.after`` hold, [N, ...]."""
    unhealthy: Callable[[BatchPhysics], Flags] | None = None
    """Returns [N]: whose episode ends here. None where none ever does."""
    success: Callable[[Moved], Flags] | None = None
    """Returns [N]: who is at the goal, where there is one."""
    arrange: Callable[[Array, Array, Parameters], None] | None = None
    """Changes starts ``qpos`` [N, nq] and ``qvel`` [N, nv] in place, to suit the tasks."""
    outputs: tuple[str, ...] = ()
    """What these functions read by ``BatchPhysics.output``: derived fields of ``mjData``, such as
    ``site_xpos``, ``xpos`` or ``sensordata``."""
    view: View = _VIEW
    """From where it is drawn."""
    markers: Callable[[Array, Parameters], Sequence[Marker]] | None = None
    """Of one copy, what shows its task in a picture, from the position [3] of its first body and
    its own parameters."""

    def __post_init__(self) -> None:
        check_fields(self, {"horizon": COUNT, "substeps": COUNT}, *_faults(self))
        names = [entry.name for entry in self.entries]
        twice = sorted({name for name in names if names.count(name) > 1})
        check_fields(
            self,
            {},
            None if names else "FromMjcf: without vary and goals there is only one task",
            f"FromMjcf: {', '.join(twice)} is there twice" if twice else None,
        )
        self._try()

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
            partial(draw, ranges=usual),
            device,
            {entry.name: about(entry) for entry in self.entries},
            partial(draw, ranges=usual | shifted) if shifted else None,
        )
        return tasks, self._build_env(device, threads)

    def _build_env(self, device: str, threads: int) -> MujocoEnv:
        physics = BatchPhysics(self.xml, 1, self.substeps, 1, self.outputs)
        _refuse_model(self, physics)
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
            vary=partial(write, vary=self.vary) if self.vary else None,
            outputs=self.outputs,
            view=self.view,
            markers=self.markers,
        )
        physics.reset(physics.nominal("qpos0")[None], np.zeros_like(physics.qvel))
        obs = side_by_side(f"{self.name}: observe", 1, self.observe, physics)
        spec = EnvSpec(
            self.name,
            observation_size=obs.shape[1],
            action_size=physics.ctrl.shape[1],
            discrete=False,
            horizon=self.horizon,
            score_is_total=False,
        )
        names = [entry.name for entry in self.entries]
        return MujocoEnv(spec, body, names, device, threads)

    def _try(self) -> None:
        """Call each of the user's functions once."""
        tasks, env = self.build("cpu", 1)
        streams = Streams(0, ("try",))
        env.reset(tasks.sample(_COPIES, streams), 1, streams)
        action = torch.zeros(_COPIES, 1, env.spec.action_size)
        env.step(action, torch.ones(_COPIES, 1, dtype=torch.bool))


def _refuse_model(door: FromMjcf, physics: BatchPhysics) -> None:
    """Refuse a model without motors, and settings that do not go with the model."""
    if not physics.ctrl.shape[1]:
        raise InputError([f"{door.name}: the model has no motors (<actuator>): nothing to learn"])
    shape, allowed = np.shape(door.noise.position), ((), physics.nominal("qpos0").shape)
    if shape not in allowed:
        raise InputError([f"FromMjcf.noise: position has shape {shape}; allowed are {allowed}"])
    for entry in door.vary:
        refuse_unfit(physics, entry)


def _faults(door: FromMjcf) -> list[str]:
    """Return what is of the wrong kind, and what is allowed."""
    lines = []
    if not isinstance(door.name, str) or not door.name.strip():
        lines.append(f"FromMjcf.name must be a name, such as 'my/CartPole-v0'; got {door.name!r}")
    if not isinstance(door.xml, str | Path):
        lines.append(f"FromMjcf.xml must be MJCF as text, or a Path; got {door.xml!r}")
    elif isinstance(door.xml, str) and "<" not in door.xml:
        lines.append(f"FromMjcf.xml looks like a path: pass Path({door.xml!r})")
    for name, kind, example in (
        ("vary", Vary, "Vary(...)"),
        ("goals", Goal, "Goal(...)"),
        ("outputs", str, "'site_xpos'"),
    ):
        value = getattr(door, name)
        if isinstance(value, kind):
            lines.append(f"FromMjcf.{name} must be a tuple: a comma is missing in ({example},)")
        elif not isinstance(value, tuple | list) or not all(isinstance(e, kind) for e in value):
            lines.append(f"FromMjcf.{name} must be a tuple such as ({example},), got {value!r}")
    needed, optional = (
        ("reward", "observe", "measure"),
        ("unhealthy", "success", "arrange", "markers"),
    )
    for name in (*needed, *optional):
        value = getattr(door, name)
        if not callable(value) and not (name in optional and value is None):
            lines.append(f"FromMjcf.{name} must be a function, got {value!r}")
    if not isinstance(door.noise, Noise):
        lines.append(
            f"FromMjcf.noise must be Noise(position=..., velocity=...), got {door.noise!r}"
        )
    if not isinstance(door.view, View):
        lines.append(f"FromMjcf.view must be View(...), got {door.view!r}")
    return lines
