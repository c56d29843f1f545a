"""An environment whose every step is written down, and an agent that acts by its noise."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.sampler import collect
from metarl.seeding import Streams
from metarl.types import Acted, Adapted, EnvSpec, Outcome, Step, Tasks, Trajectories

STREAMS = Streams(4, ("sampler",))
NEVER = 99
T = 5


class Script(NamedTuple):
    """What happens to each copy [K, E], and when; the time is counted from 0."""

    ends: Tensor
    faults: Tensor
    reaches: Tensor | None = None
    """At the goal after that step, and after no other."""


class ScriptedEnv:
    """Counts steps: obs is (steps taken, task, episode); step t pays 10 k + e + t / 10."""

    def __init__(self, script: Script, threads: int = 1, **poison: tuple[int, int, int]) -> None:
        self.spec = EnvSpec("test/Scripted-v0", 3, 2, False, T, score_is_total=False)
        self.threads = threads
        self.torch_threads: list[int] = []
        self.ran: list[Tensor] = []
        self._script, self._poison = script, poison

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        place = torch.meshgrid(
            torch.arange(len(tasks.task_id)), torch.arange(episodes), indexing="ij"
        )
        self._place = torch.stack(place, -1).float()
        self._count = torch.zeros(len(tasks.task_id), episodes)
        self._time = 0
        return self._observe("start")

    def step(self, action: Tensor, running: Tensor) -> Step:
        time, self._time = self._time, self._time + 1
        self.torch_threads.append(torch.get_num_threads())
        self.ran.append(running.clone())
        self._count = self._count + running
        task, episode = self._place.unbind(-1)
        reward = 10 * task + episode + time / 10
        return Step(
            obs=self._observe("obs"),
            reward=self._poisoned(reward, "reward"),
            # Truthful for copies that run; for others anything may stand here but a fault.
            terminated=(self._script.ends == time) | ~running,
            faulty=(self._script.faults == time) & running,
            success=None if self._script.reaches is None else self._script.reaches == time,
        )

    def _observe(self, field: str) -> Tensor:
        obs = torch.cat((self._count[..., None], self._place), -1)
        return self._poisoned(obs, field)

    def _poisoned(self, values: Tensor, field: str) -> Tensor:
        task, episode, step = self._poison.get(field, (0, 0, NEVER))
        if self._time - (field != "start") == step:
            values[task, episode, ...] = math.nan
        return values


class EchoAgent:
    """Acts by its noise, and remembers how often it acted."""

    def begin(self, num_tasks: int, episodes: int) -> Adapted:
        return {"acts": torch.zeros(num_tasks)}

    def act(self, adapted: Adapted, obs: Tensor, noise: Tensor) -> Acted:
        return Acted(noise, obs[..., 0], {"acts": adapted["acts"] + 1})

    def adapt(self, adapted: Adapted, batch: Trajectories) -> Adapted:
        return adapted

    def meta_update(self, rounds: object) -> dict[str, float]:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        assert not state


class CountingAgent(EchoAgent):
    """Acts likewise, and remembers of its copies' steps how many counted, and whose end it saw."""

    def begin(self, num_tasks: int, episodes: int) -> Adapted:
        start = torch.zeros(num_tasks, episodes)
        return {"acts": torch.zeros(num_tasks), "counted": start, "ended": start.bool()}

    def act(self, adapted: Adapted, obs: Tensor, noise: Tensor) -> Acted:
        acted = super().act(adapted, obs, noise)
        return acted._replace(adapted=adapted | acted.adapted)

    def remember(self, before: Adapted, acted: Acted, outcome: Outcome) -> Adapted:
        return {
            "acts": acted.adapted["acts"],
            "counted": before["counted"] + outcome.counted,
            "ended": outcome.ended,
        }


# Task 0: time limit, end after 2 steps, end in the last step. Task 1: fault in the first and in the
# third step, and an end and a fault at once.
SCRIPT = Script(
    ends=torch.tensor([[NEVER, 1, T - 1], [NEVER, NEVER, 3]]),
    faults=torch.tensor([[NEVER, NEVER, NEVER], [0, 2, 3]]),
)
LENGTHS = [[5, 2, 5], [0, 2, 3]]
"""Steps under the mask."""


def tasks(num_tasks: int) -> Tasks:
    return Tasks(torch.arange(num_tasks) + 7, {"nothing": torch.zeros(num_tasks)})


def sample(env: ScriptedEnv, agent: EchoAgent | None = None) -> tuple[Trajectories, Adapted]:
    agent = agent or EchoAgent()
    return collect(env, tasks(2), agent, agent.begin(2, 3), 3, STREAMS)
