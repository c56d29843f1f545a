"""An environment that tells its task: every observation ends with the task's parameters.

Told tasks are what a meta-learner would know at best: a policy on them need find out nothing. The
parameters stand in the order of ``TaskDistribution.parameters``, each flattened (row by row), and
each number x of a parameter that may lie in [low, high] as

    2 (x - low) / (high - low) - 1

so that all that training and tests can draw lies in [-1, 1]. Discrete values are numbers like any
others. Where high - low is above ``WIDEST``, or 0, the range says nothing of the parameter's scale,
and x stays as it is.

Layouts of a fixed size are so told cell by cell. Refused are parameters with an axis of any length,
such as the walls of ``metarl/GridMaze-v0``: a policy has a fixed number of inputs. That family has
its shortest paths as a ceiling instead.

Dynamics, rewards and ends are those of the environment inside.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metarl.checks import InputError
from metarl.protocols import HasLanes, TaskDistribution, VectorTaskEnv
from metarl.seeding import Streams
from metarl.types import EnvSpec, Parameter, Step, Tasks

WIDEST = 1000.0
"""A declared range beyond this is a bound against nonsense, and no scale."""


def told(distribution: TaskDistribution, env: VectorTaskEnv) -> VectorTaskEnv:
    """Return the environment, with the tasks of its distribution told.

    Raises:
        InputError: a parameter has an axis of any length.
    """
    parameters = distribution.parameters
    lines = [
        f"{env.spec.name} cannot tell its tasks: {name} ({about.text}) has an axis of any length,"
        " and a policy a fixed number of inputs"
        for name, about in parameters.items()
        if None in about.shape
    ]
    if lines:
        raise InputError(lines)
    return ToldLanes(env, parameters) if isinstance(env, HasLanes) else Told(env, parameters)


def encode(parameters: Mapping[str, Parameter], tasks: Tasks) -> Tensor:
    """Return what observations tell of K tasks, [K, P] float32."""
    columns = []
    for name, about in parameters.items():
        leaf, width = tasks.parameter[name].float(), about.high - about.low
        scaled = 2.0 * (leaf - about.low) / width - 1.0 if 0.0 < width <= WIDEST else leaf
        columns.append(scaled.reshape(len(leaf), -1))
    return torch.cat(columns, 1)


class Told:
    """An environment whose observations, [K, E, O + P], end with P numbers that tell the task."""

    def __init__(self, env: VectorTaskEnv, parameters: Mapping[str, Parameter]) -> None:
        self._env, self._parameters = env, parameters
        entries = sum(math.prod(size or 0 for size in about.shape) for about in parameters.values())
        self.spec: EnvSpec = env.spec._replace(observation_size=env.spec.observation_size + entries)
        self.threads = env.threads

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        """Start E episodes of each task; return obs [K, E, O + P]."""
        obs = self._env.reset(tasks, episodes, streams)
        code = encode(self._parameters, tasks).to(obs)
        self._code = code[:, None].expand(-1, episodes, -1)
        return self._telling(obs)

    def step(self, action: Tensor, running: Tensor) -> Step:
        """Step the environment inside."""
        return self._complete(self._env.step(action, running))

    def _complete(self, step: Step) -> Step:
        return step._replace(obs=self._telling(step.obs))

    def _telling(self, obs: Tensor) -> Tensor:
        return torch.cat((obs, self._code), -1)


class ToldLanes(Told):
    """The same of an environment that steps on threads of its own."""

    def __init__(self, env: HasLanes, parameters: Mapping[str, Parameter]) -> None:
        super().__init__(env, parameters)
        self._stepping = env

    @property
    def lanes(self) -> Sequence["ToldLanes"]:
        """The lanes of the environment inside, telling their tasks."""
        return tuple(ToldLanes(lane, self._parameters) for lane in self._stepping.lanes)

    def start_step(self, action: Tensor, running: Tensor) -> None:
        """Begin a step of the environment inside."""
        self._stepping.start_step(action, running)

    def finish_step(self) -> Step:
        """Wait for the step that was begun."""
        return self._complete(self._stepping.finish_step())
