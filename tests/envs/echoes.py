"""A user's environments of ``user_code``, through their door, and the processes they are in."""

import os
import time
from pathlib import Path
from typing import Any

import torch

from metarl.envs.from_gymnasium import FromGymnasium
from metarl.envs.gymnasium_workers import GymnasiumEnv
from metarl.seeding import Streams
from metarl.types import Tasks

USER_CODE = Path(__file__).parent / "user_code"
TASKS = [{"number": float(number)} for number in range(5)]
K, E, T = 4, 2, 6
STREAMS = Streams(3, ("test",))


def door(make: Any, **more: Any) -> FromGymnasium:
    return FromGymnasium(
        **{"name": "my/Echo-v0", "make": make, "horizon": T, "train": TASKS[:3], "test": TASKS}
        | more
    )


def build(source: FromGymnasium, workers: int = 1) -> GymnasiumEnv:
    return source.build("cpu", workers)[1]


def some_tasks() -> Tasks:
    return Tasks(torch.arange(K), {"number": torch.arange(K).float()})


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A child of a process that was killed is init's to reap, where there is one that does.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def wait_until_gone(pids: tuple[int, ...], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not all(map(gone, pids)):
        assert time.monotonic() < end, f"still there: {pids}"
        time.sleep(0.02)
