"""A user's Gymnasium environment in workers: tasks, seeds, faults, and nothing left behind."""

import gc
import importlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.bundle import Bundle, Recipe, Start
from metarl.checks import EnvFaultError, InputError
from metarl.envs.from_gymnasium import FromGymnasium
from metarl.envs.gymnasium_workers import GymnasiumEnv
from metarl.seeding import Streams
from metarl.types import Parameter, Step, Tasks

HERE = Path(__file__).parent / "user_code"
TASKS = [{"number": float(number)} for number in range(5)]
K, E, T = 4, 2, 6
STREAMS = Streams(3, ("test",))
ABOUT = Parameter("which", "", (), 0.0, 4.0)


@pytest.fixture(autouse=True)
def echo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module with the user's environments, which workers can import too."""
    monkeypatch.syspath_prepend(str(HERE))
    yield importlib.import_module("echo")
    sys.modules.pop("echo", None)


def door(make: Any, **more: Any) -> FromGymnasium:
    return FromGymnasium(
        **{"name": "my/Echo-v0", "make": make, "horizon": T, "train": TASKS[:3], "test": TASKS}
        | more
    )


def build(source: FromGymnasium, workers: int = 1) -> GymnasiumEnv:
    return source.build("cpu", workers)[1]


def some_tasks() -> Tasks:
    return Tasks(torch.arange(K), {"number": torch.arange(K).float()})


def rollout(env: GymnasiumEnv, action: Tensor) -> tuple[list[Tensor], list[Step]]:
    obs, steps = [env.reset(some_tasks(), E, STREAMS)], []
    running = torch.ones(K, E, dtype=torch.bool)
    for now in action.unbind(2):
        steps.append(env.step(now, running))
        obs.append(steps[-1].obs)
        running = running & ~steps[-1].terminated
    return obs, steps


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


def test_results_are_those_of_each_copy_alone_for_any_number_of_workers(echo: Any) -> None:
    action = STREAMS.normal("action", K, (E, T, 1))
    whole = None
    for workers in (1, 3):
        env = build(door(partial(echo.Echo, ends_after=4), success=True), workers)
        obs, steps = rollout(env, action)
        assert env.threads == workers
        assert len(env.worker_pids) == workers
        env.close()
        columns = [*obs, *(x for step in steps for x in step if x is not None)]
        whole = columns if whole is None else whole
        assert all(map(torch.equal, columns, whole))
    seeds = set()
    for task in range(K):
        for episode in range(E):
            number, high, low = obs[0][task, episode, :3].tolist()
            assert number == task
            seeds.add(seed := (int(high) << 16) + int(low))
            alone = echo.Echo()
            expected, _ = alone.reset(seed=seed, options={"task": {"number": number}})
            for time_, step in enumerate(steps[: 4 if task == 1 else T]):
                assert torch.equal(obs[time_][task, episode], torch.tensor(expected.flatten()))
                # The space goes from -1 to 3: -1 is its lowest, 1 its highest.
                share = float(action[task, episode, time_].clamp(-1, 1))
                expected, reward, *_ = alone.step(np.array([1.0 + 2.0 * share], np.float32))
                assert float(step.reward[task, episode]) == pytest.approx(reward, abs=1e-6)
    assert len(seeds) == K * E


def test_a_copy_that_ended_is_not_stepped(echo: Any) -> None:
    env = build(door(partial(echo.Echo, ends_after=2), success=True), 2)
    obs, steps = rollout(env, torch.zeros(K, E, T, 1))
    assert [step.terminated[1].all().item() for step in steps[:2]] == [False, True]
    assert [step.obs[1, 0, 3].item() for step in steps] == [1, 2, 2, 2, 2, 2]
    assert [step.obs[0, 0, 3].item() for step in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1].reward[1].abs().max() == 0
    assert steps[1].success is not None
    assert steps[1].success[1].all()
    assert torch.equal(obs[3][1], obs[2][1])
    env.close()


def test_blocks_restarts_and_other_numbers_of_copies(echo: Any) -> None:
    env = build(door(echo.Echo), 2)
    tasks = some_tasks()
    whole = env.reset(tasks, E, STREAMS)
    pids = env.worker_pids
    block = env.reset(tasks.take(slice(2, 4)), E, STREAMS.from_task(2))
    assert env.worker_pids == pids
    assert torch.equal(block, whole[2:])
    env.reset(tasks, E, STREAMS)
    before = env.step(torch.zeros(K, E, 1), torch.ones(K, E, dtype=torch.bool)).obs
    copies = torch.tensor([[True, False], [False, False], [True, True], [False, True]])
    obs = env.restart(copies, STREAMS.at("again"))
    assert torch.equal(obs[~copies], before[~copies])
    assert (obs[copies][:, 3] == 0).all()
    assert (obs[copies][:, 1:3] != whole[copies][:, 1:3]).any(-1).all()
    larger = env.reset(tasks, 5, STREAMS)
    assert larger.shape == (K, 5, 6)
    wait_until_gone(pids)
    assert torch.equal(larger[:, :E, :3], whole[..., :3])
    env.close()


def test_set_task_discrete_actions_and_one_hot_observations(echo: Any) -> None:
    env = build(door(echo.Chooser))
    assert (env.spec.discrete, env.spec.action_size, env.spec.observation_size) == (True, 3, 3)
    env.reset(some_tasks().take(slice(0, 3)), E, STREAMS)
    choice = torch.tensor([[0, 1], [1, 2], [0, 2]])
    step = env.step(choice, torch.ones(3, E, dtype=torch.bool))
    assert step.obs.argmax(-1).tolist() == choice.tolist()
    assert step.reward.tolist() == [[1, 0], [1, 0], [0, 1]]
    env.close()


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


@pytest.mark.parametrize("fault", LOST)
def test_a_failing_worker_is_named_and_leaves_no_process(echo: Any, fault: str) -> None:
    env = build(door(partial(echo.Faulty, fault), timeout=2.0 if fault == "hangs" else 60.0), 2)
    # Task 1 comes last: the second worker has it.
    tasks = Tasks(torch.arange(K), {"number": torch.tensor([0.0, 2.0, 3.0, 1.0])})
    env.reset(tasks, E, STREAMS)
    pids = env.worker_pids
    assert len(pids) == 2
    began = time.monotonic()
    with pytest.raises(EnvFaultError, match=rf"(?s)^my/Echo-v0: {LOST[fault]}"):
        play(env, tasks)
    assert time.monotonic() - began < 10.0
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


@pytest.mark.parametrize("fault", CONSTRUCTORS)
def test_a_constructor_that_fails_is_named_and_leaves_no_process(echo: Any, fault: str) -> None:
    began = time.monotonic()
    with pytest.raises(EnvFaultError, match=f"^my/Echo-v0: .*{CONSTRUCTORS[fault]}"):
        door(partial(echo.Faulty, fault), timeout=3.0).build("cpu", 1)
    assert time.monotonic() - began < 20.0
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
    command = [sys.executable, str(script), str(HERE), how]
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


def test_tasks_from_lists_and_functions() -> None:
    listed, _ = door("CartPole-v1").build("cpu", 1)
    drawn = listed.sample(200, STREAMS)
    assert set(drawn.parameter["number"].tolist()) == {0.0, 1.0, 2.0}
    assert torch.equal(drawn.parameter["number"], drawn.task_id.float())
    held_out = listed.held_out(5)
    assert held_out.task_id.tolist() == [3, 4, 5, 6, 7]
    assert held_out.parameter["number"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="5 held-out tasks, asked for 6"):
        listed.held_out(6)

    def draw(rng: np.random.Generator) -> dict[str, float]:
        return {"number": rng.uniform()}

    drawing, _ = door("CartPole-v1", train=draw, shifted=[{"number": 9}]).build("cpu", 1)
    numbers = drawing.sample(6, STREAMS).parameter["number"]
    assert len(torch.unique(numbers)) == 6
    assert torch.equal(numbers[2:], drawing.sample(4, STREAMS.from_task(2)).parameter["number"])
    assert drawing.held_out(1, "shifted").task_id.tolist() == [5]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"test": []}, "test must hold at least one task"),
        ({"test": {"number": 1.0}}, "test must be a list of dicts, got {'number': 1.0}"),
        ({"name": ""}, "name must be a name, such as 'my/Valley-v0'; got ''"),
        ({"make": 3}, "make must be a class, a function or an id; got 3"),
        ({"make": gymnasium.Env()}, "or an id, not an environment itself; got"),
        ({"parameters": {"numbr": ABOUT}}, "parameters: no 'numbr'; did you mean 'number'"),
        (
            {"parameters": {"number": None}},
            r"parameters: number must be a Parameter\(...\), got None",
        ),
        ({"train": []}, "train must be a function or hold at least one task"),
        ({"horizon": 0}, "horizon must be a whole number"),
        ({"timeout": 0.0}, "timeout must be"),
        ({"train": [{"mass": 1.0}]}, "train task 0 has mass; test task 0 has number"),
        ({"train": [{"number": "2"}]}, "train task 0: number must be a number"),
        ({"train": [{"number": np.inf}]}, "train task 0: number must be finite"),
        ({"train": [{"number": [1, 2]}]}, r"number has shape \(2,\), test task 0 \(\)"),
        ({"train": [3.0]}, "train task 0 must be a dict"),
        ({"make": "MountainCarContinuous-v0", "test": [{}]}, "test task 0 must be a dict"),
    ],
)
def test_tasks_and_settings_that_do_not_fit_are_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        door(**{"make": "CartPole-v1"} | more).build("cpu", 1)


def test_spaces_that_no_agent_takes_are_refused() -> None:
    class Odd(gymnasium.Env[Any, Any]):
        def __init__(self, action: Any) -> None:
            self.observation_space, self.action_space = gymnasium.spaces.Discrete(2), action

    for action, said in (
        (gymnasium.spaces.Box(-np.inf, np.inf, (1,)), "needs finite bounds"),
        (gymnasium.spaces.Box(0, 3, (1,), np.int64), "must hold floats"),
        (gymnasium.spaces.MultiBinary(2), "must be Box or Discrete"),
    ):
        with pytest.raises(InputError, match=said):
            door(partial(Odd, action)).build("cpu", 1)
    even = door(partial(Odd, gymnasium.spaces.Box(-2.0, 2.0, (1,)))).build("cpu", 1)[1]
    assert even.spec.action_limit == 2.0
