"""Workers of a user's Gymnasium environment: faults are named, and nothing is left behind."""

import gc
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metarl.bundle import Bundle, Recipe, Start
from metarl.checks import EnvFaultError, InputError
from metarl.envs.gymnasium_workers import GymnasiumEnv
from metarl.types import Tasks
from tests.envs.echoes import (
    STREAMS,
    USER_CODE,
    E,
    K,
    T,
    build,
    door,
    gone,
    some_tasks,
    wait_until_gone,
)

SAID = r"task \d, episode \d, task \(number 1.0\), seed \d+"
FAULTS = {
    "reset raises": rf"reset raised KeyError: 'gripper'; {SAID}, before the first step\n.*echo.py",
    "step raises": rf"step raised ZeroDivisionError: .*; {SAID}, step 3, action \[-?0\.5\]\n.*echo",
    "nan": rf"observation entry 1 is nan; {SAID}, step 3, action",
    "bounds": rf"observation entry 1 is 1\.5, its space says -1\.0 to 1\.0; {SAID}, step 3",
    "nan reward": rf"reward is nan; {SAID}, step 3",
    "array reward": rf"reward must be a number, got ndarray array\(\[0\.\]\); {SAID}",
    "shape": r"observation has shape \(3,\), its space says \(2,\)",
    "dtype": r"observation is float64, its space says float32",
    "terminated": r"terminated must be True or False, got float 1\.0",
    "truncated": rf"truncated before the horizon of {T} steps: .*; {SAID}, step 3",
    "four": r"step must return \(observation, reward, .*\), got tuple",
    "reset alone": r"reset must return \(observation, info\), got ndarray",
    "space changes": r"observation_space became Box\(-2.*; for every task it must be Box\(-1",
}
LOST = {
    "step raises": FAULTS["step raises"],
    "hangs": r"worker 1 of 2 \(process \d+\) did not answer within 2 s: .*; at step 3",
    "dies": r"worker 1 of 2 \(process \d+\) ended with exit code 3; at step 3",
    "killed": r"worker 1 of 2 \(process \d+\) was killed by SIGKILL \(exit code -9\); at step 3",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_copy_is_named(echo: Any, fault: str) -> None:
    space, action = gymnasium.spaces.Box(-1.0, 1.0, (2,)), gymnasium.spaces.Box(-1.0, 1.0, (1,))
    recipe = Recipe("my/Echo-v0", partial(echo.Faulty, fault), space, action, T, success=False)
    bundle = Bundle(recipe, 2, 1)
    start = Start({"number": 1.0}, 77, "task 4, episode 1")
    other = Start({"number": 0.0}, 78, "task 4, episode 2")
    _, info = bundle.reset(options={"shares": [[], [other, start]]})
    rows: dict[str, NDArray[Any]] = {"action": np.full((2, 1), 0.5, np.float32)}
    rows["running"] = np.ones(2, np.int8)
    for _ in range(3):
        if not info:
            *_, info = bundle.step(rows)
    assert re.search(rf"(?s)^my/Echo-v0: {FAULTS[fault]}", info["fault"])
    bundle.close()


def play(env: GymnasiumEnv, tasks: Tasks) -> None:
    env.reset(tasks, E, STREAMS)
    for _ in range(T):
        env.step(torch.full((K, E, 1), 0.5), torch.ones(K, E, dtype=torch.bool))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", LOST)
def test_a_failing_worker_is_named_and_leaves_no_process(echo: Any, fault: str) -> None:
    # Only where there is no answer is it waited for.
    env = build(door(partial(echo.Faulty, fault), timeout=2.0 if fault == "hangs" else 3600.0), 2)
    # Task 1 comes last: the second worker has it.
    tasks = Tasks(torch.arange(K), {"number": torch.tensor([0.0, 2.0, 3.0, 1.0])})
    env.reset(tasks, E, STREAMS)
    pids = env.worker_pids
    assert len(pids) == 2
    with pytest.raises(EnvFaultError, match=rf"(?s)^my/Echo-v0: {LOST[fault]}"):
        play(env, tasks)
    wait_until_gone(pids, 5.0)
    with pytest.raises(RuntimeError, match="step without reset"):
        env.step(torch.zeros(K, E, 1), torch.ones(K, E, dtype=torch.bool))
    if fault == "killed":  # the next round starts with new workers
        env.reset(tasks, E, STREAMS)
        assert set(env.worker_pids).isdisjoint(pids)
    env.close()


CONSTRUCTORS = {
    "constructor": r"constructor raised OSError: no such robot \(echo.py, line \d+, in __init__\)",
    "slow constructor": r"make did not return within 3 s: .*FromGymnasium\.timeout",
    "dying constructor": "process that made the first environment ended with exit code 3",
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", CONSTRUCTORS)
def test_a_constructor_that_fails_is_named_and_leaves_no_process(echo: Any, fault: str) -> None:
    timeout = 3.0 if fault == "slow constructor" else 3600.0
    with pytest.raises(EnvFaultError, match=f"^my/Echo-v0: .*{CONSTRUCTORS[fault]}"):
        door(partial(echo.Faulty, fault), timeout=timeout).build("cpu", 1)
    assert not multiprocessing.active_children()


def test_what_cannot_be_sent_to_a_worker_is_refused() -> None:
    lock = threading.Lock()
    with pytest.raises(InputError, match="make cannot be sent to a worker process: TypeError"):
        door(lambda: lock).build("cpu", 1)


def test_workers_end_with_the_environment_and_with_close(echo: Any) -> None:
    env = build(door(echo.Echo), 2)
    env.reset(some_tasks(), E, STREAMS)
    pids = env.worker_pids
    del env
    gc.collect()
    wait_until_gone(pids)
    env = build(door(echo.Echo))
    env.reset(some_tasks(), E, STREAMS)
    pids = env.worker_pids
    env.close()
    env.close()
    assert all(map(gone, pids))


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
if __name__ == "__main__" or sys.argv[2] == "unguarded":
    import torch
    from functools import partial
    from echo import Echo, Faulty
    from metarl.envs.from_gymnasium import FromGymnasium
    from metarl.seeding import Streams
    tasks = [{"number": 0.0}, {"number": 1.0}]
    make = partial(Faulty, "hangs") if sys.argv[2] == "hangs" else Echo
    door = FromGymnasium(name="my/Echo-v0", make=make, horizon=5, train=tasks, test=tasks)
    distribution, env = door.build("cpu", 2)
    env.reset(distribution.held_out(2), 2, Streams(1))
    print(*env.worker_pids, flush=True)
    if sys.argv[2] == "hangs":
        for _ in range(3):
            env.step(torch.zeros(2, 2, 1), torch.ones(2, 2, dtype=torch.bool))
    time.sleep(1000.0 if sys.argv[2] == "waits" else 0.0)
"""


@pytest.mark.parametrize("how", ["waits", "hangs", "ends", "unguarded"])
def test_no_worker_outlives_its_process(tmp_path: Path, how: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(USER_CODE), how]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        if how == "unguarded":
            _, said = process.communicate(timeout=60)
            assert process.returncode == 1
            assert 'needs `if __name__ == "__main__":` around it' in said
            return
        pids = tuple(map(int, process.stdout.readline().split()))
        assert len(pids) == 2
        # Workers do not load torch: that is what makes them quick and small.
        maps = Path(f"/proc/{pids[0]}/maps")
        if maps.exists() and how == "waits":
            assert "libtorch" not in maps.read_text()
        if how == "hangs":
            time.sleep(0.5)
        if how in ("waits", "hangs"):
            process.send_signal(signal.SIGKILL)
        process.wait(timeout=20)
        wait_until_gone(pids)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_ctrl_c_is_the_parents_business(echo: Any) -> None:
    env = build(door(echo.Echo))
    env.reset(some_tasks(), E, STREAMS)
    for pid in env.worker_pids:
        os.kill(pid, signal.SIGINT)
    step = env.step(torch.zeros(K, E, 1), torch.ones(K, E, dtype=torch.bool))
    assert (step.obs[..., 3] == 1).all()
    env.close()
