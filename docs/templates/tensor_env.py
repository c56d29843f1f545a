"""The tensor door: a cart that is to stop at a hidden place, with an engine of hidden strength.

Task. ``place`` ~ U[-1, 1] m and ``strength`` ~ U[0.5, 2] N. Observation: position (m) and speed
(m/s). Action: one number, clipped to [-1, 1], times the strength is the force on the cart of 1 kg.
Reward: minus the distance to the place, in m. 50 steps of 0.1 s. Never terminates. Start: the
origin, with a speed of 0.1 N(0, 1) m/s.

``metarl check docs/templates/tensor_env.py:ENV``
"""

import torch
from torch import Tensor

from metarl.envs.own import FromTensors
from metarl.envs.task_lists import EndlessTasks
from metarl.seeding import Streams
from metarl.types import EnvSpec, Parameter, Step, Tasks

NAME = "my/Cart-v0"
PARAMETERS = {
    "place": Parameter("where to stop", "m", (), -1.0, 1.0),
    "strength": Parameter("force of a full push", "N", (), 0.5, 2.0),
}


def draw(num_tasks: int, streams: Streams) -> dict[str, Tensor]:
    """Draw K tasks: everything random comes from the streams, by the name of its purpose."""
    place = 2.0 * streams.uniform("place", num_tasks, ()) - 1.0
    return {"place": place, "strength": 0.5 + 1.5 * streams.uniform("strength", num_tasks, ())}


class CartEnv:
    """E carts for each of K tasks. Owns their positions and speeds, [K, E]."""

    spec = EnvSpec(NAME, 2, 1, discrete=False, horizon=50, score_is_total=False)
    threads = 1

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        """Start E episodes of each task; all chance of the round is drawn here."""
        self._task = {name: leaf[:, None] for name, leaf in tasks.parameter.items()}
        self._speed = 0.1 * streams.normal("speed", len(tasks.task_id), (episodes,))
        self._speed = self._speed.to(self._task["place"].device)
        self._position = torch.zeros_like(self._speed)
        return torch.stack((self._position, self._speed), -1)

    def step(self, action: Tensor, running: Tensor) -> Step:
        """Push the running carts; the others stay as they are. Nothing is written in place."""
        force = action[..., 0].clamp(-1.0, 1.0) * self._task["strength"]
        self._speed = torch.where(running, self._speed + 0.1 * force, self._speed)
        self._position = torch.where(running, self._position + 0.1 * self._speed, self._position)
        return Step(
            obs=torch.stack((self._position, self._speed), -1),
            reward=-(self._position - self._task["place"]).abs(),
            terminated=torch.zeros_like(running),
            faulty=torch.zeros_like(running),
        )


def build(device: str, _threads: int) -> tuple[EndlessTasks, CartEnv]:
    """Build the distribution and the environment; tensors live where the tasks do."""
    return EndlessTasks(NAME, draw, device, PARAMETERS), CartEnv()


ENV = FromTensors(NAME, build, shows="dynamics")
