"""Copies of a user's Gymnasium environment in one worker process, stepped one after the other.

To Gymnasium's vector environment a bundle is one environment, whose observation holds everything
that its copies return, so that it goes through shared memory. This module imports no torch, and
stands outside of ``metarl.envs`` for that: a worker starts in a fraction of a second and stays
small.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.checks import EnvFaultError, told

AnyEnv: TypeAlias = gymnasium.Env[Any, Any]
Rows: TypeAlias = dict[str, NDArray[Any]]
"""What the copies of a bundle do or return, by name; every array leads with the copies."""

_GRACE_S = 1.0
"""Seconds that copies have to close themselves when the parent has died."""

FAULT = "fault"
"""Key of the info that holds the message, where a copy failed."""


class Recipe(NamedTuple):
    """How the copies are made, and what they must keep to."""

    name: str
    make: Callable[[], AnyEnv]
    observation: spaces.Space[Any]
    action: spaces.Box | spaces.Discrete
    horizon: int
    success: bool
    """Whether ``info["success"]`` tells who is at the goal."""


class Start(NamedTuple):
    """The beginning of one copy's episode."""

    task: Mapping[str, float | NDArray[np.float32]]
    seed: int
    place: str
    """Which copy it is, for messages."""


class Stepped(NamedTuple):
    """What one step of one copy led to."""

    obs: NDArray[np.float32]
    reward: float
    terminated: bool
    success: bool


class _Copy:
    """One environment, watched: what it returns is checked, and its errors say where they arose."""

    def __init__(self, recipe: Recipe, start: Start) -> None:
        self._recipe, self._start, self._time = recipe, start, 0
        self._action: object = None
        self.env = self._asked("constructor", recipe.make)

    def start(self, start: Start) -> NDArray[np.float32]:
        """Begin an episode of a task; return the observation [O]."""
        self._start, self._time, self._action = start, 0, None
        options: dict[str, Any] | None = {"task": dict(start.task)}
        if self.env.has_wrapper_attr("set_task"):
            set_task = self.env.get_wrapper_attr("set_task")
            self._asked("set_task", lambda: set_task(dict(start.task)))
            options = None
        result = self._asked("reset", lambda: self.env.reset(seed=start.seed, options=options))
        for kind in ("observation", "action"):
            here, expected = getattr(self.env, f"{kind}_space"), getattr(self._recipe, kind)
            if here != expected:
                raise self._fault(
                    f"{kind}_space became {here}; for every task it must be {expected}"
                )
        if not isinstance(result, tuple) or len(result) != 2:
            raise self._fault(f"reset must return (observation, info), got {_short(result)}")
        return self._observation(result[0])

    def step(self, action: NDArray[Any]) -> Stepped:
        """Apply an action that the parent has fitted to the space."""
        space = self._recipe.action
        given = int(action) if isinstance(space, spaces.Discrete) else action.reshape(space.shape)
        self._action, self._time = given, self._time + 1
        result = self._asked("step", lambda: self.env.step(given))
        if not isinstance(result, tuple) or len(result) != 5:
            raise self._fault(
                "step must return (observation, reward, terminated, truncated, info),"
                f" got {_short(result)}"
            )
        obs, reward, terminated, truncated, info = result
        if np.ndim(reward) or not np.issubdtype(np.asarray(reward).dtype, np.number):
            raise self._fault(f"reward must be a number, got {_short(reward)}")
        if not np.isfinite(reward):
            raise self._fault(f"reward is {reward}")
        if not isinstance(terminated, bool | np.bool_):
            raise self._fault(f"terminated must be True or False, got {_short(terminated)}")
        if truncated and not terminated and self._time < self._recipe.horizon:
            raise self._fault(
                f"truncated before the horizon of {self._recipe.horizon} steps: lower the horizon,"
                " or return terminated where the task itself ends"
            )
        if self._recipe.success and "success" not in info:
            raise self._fault("info has no 'success'")
        success = bool(info["success"]) if self._recipe.success else False
        return Stepped(self._observation(obs), float(reward), bool(terminated), success)

    def _observation(self, value: object) -> NDArray[np.float32]:
        """Check an observation against its space, and flatten it."""
        space = self._recipe.observation
        if isinstance(space, spaces.Box):
            array = np.asarray(value)
            if array.shape != space.shape:
                raise self._fault(
                    f"observation has shape {array.shape}, its space says {space.shape}"
                )
            if not np.can_cast(array.dtype, space.dtype or np.float32):
                raise self._fault(f"observation is {array.dtype}, its space says {space.dtype}")
        elif not space.contains(value):
            raise self._fault(f"observation {_short(value)} is not in {space}")
        flat: NDArray[np.float32] = np.asarray(spaces.flatten(space, value), dtype=np.float32)
        finite = np.isfinite(flat)
        if not finite.all():
            entry = int(np.argmin(finite))
            raise self._fault(f"observation entry {entry} is {flat[entry]}")
        if isinstance(space, spaces.Box):
            inside = ((array >= space.low) & (array <= space.high)).ravel()
            if not inside.all():
                entry = int(np.argmin(inside))
                low, high = space.low.flat[entry], space.high.flat[entry]
                raise self._fault(
                    f"observation entry {entry} is {flat[entry]}, its space says {low} to {high}"
                )
        return flat

    def _asked(self, what: str, call: Callable[[], Any]) -> Any:
        """Call the user's code; its exceptions become messages that say where they arose."""
        try:
            return call()
        except Exception as error:
            # The user's own frames: those behind this one and the one-line call above.
            frames = traceback.extract_tb(error.__traceback__)[1:]
            mine = [frame for frame in frames if frame.filename != __file__]
            text = "".join(traceback.format_list(mine)).rstrip()
            raise self._fault(f"{what} raised {type(error).__name__}: {error}", text) from None

    def _fault(self, what: str, trace: str = "") -> EnvFaultError:
        task = ", ".join(f"{name} {value}" for name, value in self._start.task.items())
        parts = [self._start.place, f"task ({task})", f"seed {self._start.seed}"]
        parts.append(f"step {self._time}" if self._time else "before the first step")
        if self._action is not None:
            parts.append(f"action {self._action}")
        lines = [f"{self._recipe.name}: {what}; {', '.join(parts)}", trace]
        return EnvFaultError("\n".join(filter(None, lines)))


class Bundle(gymnasium.Env[Any, Any]):
    """Up to ``capacity`` copies, as the environment of one worker. Owns them."""

    def __init__(self, recipe: Recipe, capacity: int, worker: int) -> None:
        self._recipe, self._worker, self._follows = recipe, worker, False
        self._copies: list[_Copy] = []
        self._rows = empty_rows(recipe, capacity)
        self.observation_space = spaces.Dict(
            {name: _unbounded(rows) for name, rows in self._rows.items()}
        )
        discrete = isinstance(recipe.action, spaces.Discrete)
        size = int(np.prod(recipe.action.shape or ()))
        shape = (capacity,) if discrete else (capacity, size)
        dtype = np.int64 if discrete else recipe.action.dtype
        actions: NDArray[Any] = np.zeros(shape, dtype)
        running = np.zeros(capacity, np.int8)
        self.action_space = spaces.Dict(
            {"action": _unbounded(actions), "running": _unbounded(running)}
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Rows, dict[str, Any]]:
        """Start the copies for which this worker's entry of ``options["shares"]`` has a ``Start``.

        None stands for a copy that goes on as it is.
        """
        if not self._follows:
            follow_parent()
            self._follows = True
        share: Sequence[Start | None] = (options or {})["shares"][self._worker]
        try:
            for row, start in enumerate(share):
                if start is None:
                    continue
                if row == len(self._copies):
                    self._copies.append(_Copy(self._recipe, start))
                self._rows["obs"][row] = self._copies[row].start(start)
        except EnvFaultError as fault:
            return self._rows, {FAULT: str(fault)}
        return self._rows, {}

    def step(self, action: Rows) -> tuple[Rows, float, bool, bool, dict[str, Any]]:
        """Step the running copies; the others keep their observation and earn nothing."""
        for name in ("reward", "terminated", "success"):
            self._rows[name][:] = 0
        try:
            for row in np.flatnonzero(action["running"]):
                stepped = self._copies[row].step(action["action"][row])
                for name, value in stepped._asdict().items():
                    self._rows[name][row] = value
        except EnvFaultError as fault:
            return self._rows, 0.0, False, False, {FAULT: str(fault)}
        return self._rows, 0.0, False, False, {}

    def close(self) -> None:
        """Close the copies."""
        for copy in self._copies:
            copy.env.close()
        if self._follows and isinstance(sys.exc_info()[1], EOFError | ConnectionError):
            os._exit(1)  # the parent is gone: nobody is left to read a traceback


def follow_parent() -> None:
    """Make a worker end with its parent, however that ends and whatever a copy is busy with.

    Only a copy that never lets go of Python's lock outlives it.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    # Ctrl-C reaches every process of a terminal: the parent decides what comes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    time.sleep(_GRACE_S)
    os._exit(1)


def tell_spaces(pipe: Connection, name: str) -> None:
    """Make one environment as the pipe says, and answer with its two spaces or with a message."""
    follow_parent()
    doing = "the import of make"
    try:
        make = pipe.recv()
        doing = "constructor"
        env = make()
        found: object = (env.observation_space, env.action_space)
        doing = "close"
        env.close()
    except Exception as error:
        found = f"{name}: {doing} raised {told(error)}"
    pipe.send(found)


def empty_rows(recipe: Recipe, capacity: int) -> Rows:
    """Return the arrays of a bundle whose copies have not done anything."""
    return {
        "obs": np.zeros((capacity, spaces.flatdim(recipe.observation)), np.float32),
        "reward": np.zeros(capacity, np.float64),
        "terminated": np.zeros(capacity, np.int8),
        "success": np.zeros(capacity, np.int8),
    }


def _unbounded(rows: NDArray[Any]) -> spaces.Box:
    """Return a space of any numbers of the shape and dtype of ``rows``."""
    kind = np.dtype(rows.dtype)
    if np.issubdtype(kind, np.floating):
        return spaces.Box(-np.inf, np.inf, rows.shape, kind.type)
    about = np.iinfo(kind)
    return spaces.Box(about.min, about.max, rows.shape, kind.type)


def _short(value: object) -> str:
    """Return a value's representation, cut."""
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 80 else text[:77] + "..."
