"""A user's cart and pole, with a payload, damping and a place to go that vary."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metarl.envs.from_mjcf import FromMjcf, Goal, Vary
from metarl.envs.mujoco_env import Array, Moved
from metarl.seeding import Streams
from metarl.types import Tasks

TEMPLATE = Path(__file__).resolve().parents[2] / "docs" / "templates" / "cart_pole.xml"
XML = TEMPLATE.read_text()
PAYLOAD = Vary(("body_mass", "body_inertia"), "payload", low=0.5, high=3.0)
DAMPING = Vary("dof_damping", "slide", low=0.0, high=2.0, absolute=True, shifted=(2.0, 3.0))
PLACE = Goal("place", low=-1.0, high=1.0, unit="m")
E, T = 2, 20
STREAMS = Streams(5, ("test",))


def pay(moved: Moved) -> Array:
    return moved.parameter["place"] - moved.after[:, 0]


def door(**more: Any) -> FromMjcf:
    fields: dict[str, Any] = {
        "name": "my/CartPole-v0",
        "xml": XML,
        "reward": pay,
        "horizon": T,
        "substeps": 2,
        "vary": (PAYLOAD, DAMPING),
        "goals": (PLACE,),
    }
    return FromMjcf(**fields | more)


def tasks(payload: list[float], damping: list[float]) -> Tasks:
    number = len(payload)
    leaves = {"payload.body_mass": payload, "slide.dof_damping": damping, "place": [0.5] * number}
    return Tasks(torch.arange(number), {n: torch.tensor(x) for n, x in leaves.items()})


def roll(source: FromMjcf, which: Tasks, first: Tasks | None = None) -> tuple[Tensor, Tensor]:
    """Observations [K, E, T+1, O] and rewards [K, E, T] under actions that episodes share."""
    _, env = source.build("cpu", 1)
    if first is not None:
        env.reset(first, E, STREAMS)
    number = len(which.task_id)
    action = STREAMS.normal("action", 1, (E, T, 1)).expand(number, -1, -1, -1)
    obs, rewards = [env.reset(which, E, STREAMS)], []
    for now in action.unbind(2):
        step = env.step(now, torch.ones(number, E, dtype=torch.bool))
        obs.append(step.obs)
        rewards.append(step.reward)
    return torch.stack(obs, 2), torch.stack(rewards, 2)
