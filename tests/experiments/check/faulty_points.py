"""Points that run after their goals, with one fault or none, and what ``check`` finds."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from metarl.experiments.check.contract import Finding, check
from metarl.experiments.check.play import Subject
from metarl.seeding import Streams
from metarl.types import EnvSpec, Parameter, Step, Tasks


class Points:
    """Tasks ``goal`` [2]; what a fault is called is what goes wrong."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.parameters = {"goal": Parameter("where to go", "m", (2,), -1.0, 1.0)}
        self.held_out_lists: Mapping[str, int | None] = {"test": 30}
        if fault == "no test list":
            self.held_out_lists = {"held-out": 3}
        if fault == "out of range":
            self.parameters["goal"] = self.parameters["goal"]._replace(high=0.5)
        if fault == "other shape":
            self.parameters["goal"] = self.parameters["goal"]._replace(shape=(3,))
        if fault == "other name":
            self.parameters["place"] = self.parameters.pop("goal")

    def sample(self, num_tasks: int, streams: Streams) -> Tasks:
        if self.fault == "one seed":
            streams = streams._replace(seed=0, path=())
        if self.fault == "global chance":
            goal = torch.rand(num_tasks, 2)
        elif self.fault == "row by row":
            rows = [streams.at(row).uniform("goal", 1, (2,)) for row in range(num_tasks)]
            goal = torch.cat(rows)
        elif self.fault == "train on test":
            return self.held_out(min(num_tasks, 30))
        else:
            goal = streams.uniform("goal", num_tasks, (2,))
        if self.fault == "double":
            goal = goal.double()
        return Tasks(torch.full((num_tasks,), -1), {"goal": 2.0 * goal - 1.0})

    def held_out(self, num_tasks: int, split: str = "test") -> Tasks:
        streams = Streams(int(torch.randint(1000, ())) if self.fault == "unfrozen" else 99)
        return Points("").sample(num_tasks, streams)._replace(task_id=torch.arange(num_tasks))


class PointEnv:
    """Noisy points that run after their goals."""

    threads = 1

    def __init__(self, fault: str) -> None:
        self.fault = fault
        horizon = 0 if fault == "no horizon" else 20
        self.spec = EnvSpec("my/Point-v0", 2, 2, False, horizon, score_is_total=False)

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        if self.fault == "spec changes":
            self.spec = self.spec._replace(horizon=self.spec.horizon + 1)
        number = len(tasks.task_id)
        self._goal = tasks.parameter["goal"][:, None].clone()
        if self.fault == "reads no task":
            self._goal = torch.zeros_like(self._goal)
        if self.fault == "reads ids":
            self._goal = self._goal + tasks.task_id[:, None, None]
        if self.fault == "writes tasks":
            tasks.parameter["goal"].mul_(0.5)
        draw = streams.at(number) if self.fault == "counts tasks" else streams
        self._noise = draw.normal("noise", number, (episodes, 2))
        if self.fault == "global noise":
            self._noise = torch.randn(number, episodes, 2)
        self._position = torch.zeros(number, episodes, 2)
        if self.fault == "leaks":
            self._position = self._position + 0.1 * self._goal
        if self.fault == "nan at reset":
            self._position[0, 1, 0] = torch.nan
        self._start = self._position.clone()
        return self._position[..., :1] if self.fault == "flat" else self._position

    def restart(self, copies: Tensor, streams: Streams) -> Tensor:
        if self.fault == "restarts all":
            copies = torch.ones_like(copies)
        self._position = torch.where(copies[..., None], self._start, self._position)
        if self.fault == "restarts elsewhere":
            self._position = self._position + copies[..., None]
        return self._position

    def step(self, action: Tensor, running: Tensor) -> Any:
        if self.fault == "writes actions":
            action.clamp_(-0.5, 0.5)
        move = action if self.fault == "explodes" else action.clamp(-1.0, 1.0)
        if self.fault == "explodes":
            move = torch.where(move.abs() > 10, torch.inf, move)
        move = move + 0.1 * self._noise
        if self.fault == "moves to the goal":
            move = move + self._goal
        if self.fault == "touches":
            move = move * running.float().mean()
        if self.fault != "never stands":
            move = move * running[..., None]
        if self.fault == "in place":
            self._position += move
        else:
            self._position = self._position + move
        reward = -(self._position - self._goal).norm(dim=-1)
        if self.fault == "nan reward":
            reward = reward * torch.nan
        if self.fault == "total reward":
            reward = reward.sum(1)
        never = torch.zeros_like(running)
        if self.fault == "raises":
            return SimpleNamespace(**{})["obs"]  # type: ignore[index]
        if self.fault == "tuple":
            return self._position, reward, never, never
        floats = never.float() if self.fault == "float flags" else never
        return Step(self._position, reward, floats, never)


def findings(fault: str) -> dict[str, Finding]:
    subject = Subject(Points(fault), PointEnv(fault), "rewards")
    return {finding.rule: finding for finding in check(subject)}
