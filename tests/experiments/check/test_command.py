"""``metarl check``: every rule can fail, each says what came, and the command line reports it."""

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.checks import EnvFaultError, InputError, told
from metarl.experiments.arguments import plain_console
from metarl.experiments.check.command import Report, check_named, print_report
from metarl.experiments.check.contract import RULES, Finding, check
from metarl.experiments.check.play import Played, Subject, difference
from metarl.experiments.cli import main
from metarl.seeding import Streams
from metarl.types import EnvSpec, Parameter, Step, Tasks

ROOT = Path(__file__).resolve().parents[3]
USER_CODE = ROOT / "tests" / "envs" / "user_code"
TEMPLATES = ROOT / "docs" / "templates"


@pytest.fixture(autouse=True)
def path() -> Iterator[None]:
    """Leave the import path and the modules as they were: the command adds to both."""
    before, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(TEMPLATES)):
            del sys.modules[name]


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


FAULTS: Mapping[str, tuple[str, str]] = {
    "no horizon": ("spec", "spec.horizon is 0; it must be a whole number from 1"),
    "out of range": ("training tasks", r"goal goes from .* to .*; parameters says -1 to 0.5"),
    "other shape": ("training tasks", r"parameter goal has shape \[4, 2\]; it must be \[4, 3\]"),
    "other name": ("training tasks", "tasks have goal; parameters names place"),
    "double": ("training tasks", "parameter goal is torch.float64; it must be torch.float32"),
    "global chance": ("training tasks", "other tasks from the same streams"),
    "row by row": ("training tasks", r"slots \[2, 3\] drew other tasks as a block of 2"),
    "one seed": ("training tasks", "four seeds drew the same 16 tasks"),
    "no test list": ("held-out tasks", "held_out_lists has held-out; it must have 'test'"),
    "unfrozen": ("held-out tasks", "the first 10 tasks of 'test' are not the same in every call"),
    "train on test": ("held-out tasks are not met in training", "held-out task 0 .* was drawn"),
    "flat": ("reset", r"reset: obs has shape \[4, 2, 1\]; it must be \[4, 2, 2\]"),
    "nan at reset": ("reset", r"reset: obs is nan at \[0, 1, 0\]; it must be finite"),
    "spec changes": ("reset", "spec became .*horizon=21.*; for every task it must be .*20"),
    "nan reward": ("step", r"step 1: reward is nan at \[0, 0\]; it must be finite"),
    "total reward": ("step", r"step 1: reward has shape \[4\]; it must be \[4, 2\]"),
    "float flags": ("step", "step 1: terminated is torch.float32; it must be torch.bool"),
    "tuple": ("step", "step returned tuple; it must be metarl.types.Step"),
    "raises": ("step", r"TypeError: .* \(test_command.py, line \d+, in step\)"),
    "writes actions": ("step", "step 1 wrote into the action"),
    "global noise": ("same seed, same bits", "obs differs from step 1 on: the same seed"),
    "writes tasks": ("tasks are left as they are", "changed its tasks' parameters"),
    "reads ids": ("tasks are left as they are", "rebuilt from its parameters went otherwise"),
    "reads no task": ("tasks differ", "4 tasks could not be told apart in 100 ep.* same seed"),
    "leaks": ("tasks are hidden", "can be told apart by the first observation"),
    "moves to the goal": ("tasks are hidden", "told apart by the observation of step 1: .*shows="),
    "never stands": ("copies that do not run stand still", "moved in step 1; it must stay"),
    "touches": ("copies that do not run stand still", "went otherwise in step 1 because another"),
    "counts tasks": ("tasks do not touch each other", "task 3 went otherwise as a block"),
    "in place": ("results are the caller's to keep", "reset: obs was written into by a later"),
    "explodes": ("actions beyond the limit", r"step 1: obs is not finite after actions of 1000"),
    "restarts all": ("copies restart, where they can", "does not restart must keep"),
    "restarts elsewhere": ("copies restart, where they can", "must start as reset starts it"),
}


def findings(fault: str) -> dict[str, Finding]:
    subject = Subject(Points(fault), PointEnv(fault), "rewards")
    return {finding.rule: finding for finding in check(subject)}


def test_a_faultless_environment_passes_every_rule() -> None:
    assert [f for f in findings("none").values() if f.problem or f.note or not f.checked] == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_rule(fault: str) -> None:
    rule, said = FAULTS[fault]
    finding = findings(fault)[rule]
    assert re.search(said, finding.problem or finding.note or "")


@pytest.mark.parametrize("fault", ["flat", "nan reward", "raises", "no test list"])
def test_one_fault_is_told_once(fault: str) -> None:
    found = findings(fault)
    assert [f.rule for f in found.values() if f.problem] == [FAULTS[fault][0]]
    assert found["copies restart, where they can"].checked == (fault == "no test list")


def test_what_is_not_a_number_in_both_is_no_difference() -> None:
    nan = Played(*(torch.full((1, 1, 2), torch.nan) for _ in range(3)))
    assert list(difference(nan, nan, "")) == []
    zero = Played(*(torch.zeros(1, 1, 2) for _ in range(3)))
    assert len(list(difference(nan, zero, ""))) == 3


def test_what_a_search_did_not_find_is_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    found = findings("reads no task")["tasks differ"]
    assert (found.problem, found.checked) == (None, True)
    report = Report("my/Point-v0", [found])
    assert report.holds
    print_report(report, plain_console())
    assert "  note         tasks differ: 4 tasks could not" in capsys.readouterr().out


def test_every_rule_can_fail() -> None:
    assert {rule for rule, _ in FAULTS.values()} == set(RULES)


def test_what_a_task_may_show_is_declared() -> None:
    for fault, shows in (("leaks", "start"), ("moves to the goal", "dynamics")):
        subject = Subject(Points(fault), PointEnv(fault), shows)  # type: ignore[arg-type]
        assert all(finding.problem is None for finding in check(subject)), fault


@pytest.mark.parametrize("name", envs.ENVS)
def test_the_suites_own_environments_pass(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", name]) == 0
    assert capsys.readouterr().out.count("  ok  ") == len(RULES)


@pytest.mark.parametrize("template", ["cart_pole.py", "tensor_env.py", "gymnasium_env.py"])
def test_a_template_passes_in_good_time(template: str, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.process_time()
    assert main(["check", f"{TEMPLATES / template}:ENV", "--json"]) == 0
    assert time.process_time() - began < 2.0
    report = json.loads(capsys.readouterr().out)
    assert report["holds"]
    assert report["name"].startswith("my/")
    assert [entry["rule"] for entry in report["rules"]] == list(RULES)


MINE = """
from metarl.experiments.check import play
from metarl.envs.own import FromTensors
def build(device, threads):
    raise ValueError("no licence for the simulator")
def table(device, threads):
    from metarl import envs
    return envs.build("metarl/BernoulliBandit-v0", device=device, threads=threads)
def lonely(device, threads):
    return table(device, threads)[1]
def swapped(device, threads):
    return table(device, threads)[::-1]
ENV = FromTensors("my/Broken-v0", build)
NUMBER = 3
"""

GYM = """
import sys
sys.path.insert(0, {folder!r})
from functools import partial
from echo import Echo, Faulty
from metarl.envs.from_gymnasium import FromGymnasium
tasks = [dict(number=float(n)) for n in range(3)]
ENV = FromGymnasium(
    name="my/Faulty-v0", make=partial(Faulty, "nan"), horizon=9, train=tasks, test=tasks
)
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("metarl/HalfCheetahDi-v0", "did you mean 'metarl/HalfCheetahDir-v0'"),
        ("min.py:ENV", "no 'min.py'; did you mean 'mine.py'"),
        ("mine.py", "say what of mine.py to check: mine.py:NAME; it has ENV"),
        ("mine.py:EVN", "attribute of mine.py: no 'EVN'; did you mean 'ENV'"),
        ("mine:NUMBER", "mine:NUMBER is a int; it must be a FromMjcf"),
        ("mine.py:ENV", "build raised ValueError: no licence .*mine.py, line 5, in build"),
        ("mine.py:lonely", r"mine.py:lonely must return \(distribution, env\), got \w+"),
        (
            "mine.py:swapped",
            "swapped must return .* is no TaskDistribution .*: it has no parameters",
        ),
        ("no_such_module:ENV", "import raised ModuleNotFoundError"),
        ("bad.py:ENV", "import raised SyntaxError"),
        ("json.py:ENV", "json.py is hidden by another module 'json'"),
    ],
)
def test_what_cannot_be_checked_ends_with_2_and_the_nearest_name(
    what: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    Path("bad.py").write_text("x = (")
    Path("json.py").write_text("ENV = 1")
    assert main(["check", what]) == 2
    assert re.search(said, capsys.readouterr().err)
    sys.modules.pop("mine", None)


def test_a_function_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    assert main(["check", "mine.py:table"]) == 0
    assert "mine.py:table" in capsys.readouterr().out
    sys.modules.pop("mine", None)


def test_an_environment_that_fails_by_itself_is_not_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "faulty_tasks.py").write_text(GYM.format(folder=str(USER_CODE)))
    assert main(["check", f"{tmp_path / 'faulty_tasks.py'}:ENV"]) == 1
    out = capsys.readouterr().out
    assert "FAILED       step: my/Faulty-v0: observation entry 1 is nan; task 1" in out
    assert "ok           reset" in out
    assert "not checked  same seed, same bits" in out
    # Its held-out list is its training list.
    assert (
        "FAILED       held-out tasks are not met in training: held-out task 0 (number 0.0)" in out
    )
    assert not _children()


def test_an_environment_that_cannot_be_made_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = GYM.format(folder=str(USER_CODE)).replace('"nan"', '"constructor"')
    (tmp_path / "unmade_tasks.py").write_text(code)
    assert main(["check", f"{tmp_path / 'unmade_tasks.py'}:ENV"]) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"metarl: my/Faulty-v0: constructor raised OSError: no such robot \(echo.py, line \d+, in"
        r" __init__\)\n",
        said,
    )


@pytest.mark.parametrize("fault", ["hangs", "slow constructor"])
def test_an_environment_that_hangs_ends_the_check(tmp_path: Path, fault: str) -> None:
    name = f"{fault[:4]}_tasks"
    (tmp_path / f"{name}.py").write_text(
        GYM.format(folder=str(USER_CODE)).replace('"nan"', repr(fault))
    )
    began = time.monotonic()
    what = f"{tmp_path / name}.py:ENV"
    if fault == "hangs":
        report = check_named(what, timeout=2.0)
        problems = [f.problem for f in report.findings if f.rule == "step"]
        assert re.search("did not answer within 2 s", problems[0] or "")
    else:
        with pytest.raises(EnvFaultError, match="make did not return within 2 s"):
            check_named(what, timeout=2.0)
    assert time.monotonic() - began < 30.0
    assert not _children()


def _children() -> list[str]:
    """Worker processes of this one; what Python keeps to clean up after them does not count."""
    task = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    pids = task.read_text().split() if task.exists() else []
    lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids]
    return [line for line in lines if "spawn_main" in line]


def test_an_exception_is_told_with_the_users_own_line() -> None:
    for call in (
        lambda: envs.build("no such environment"),  # raises in the suite
        lambda: torch.nn.functional.softmax(3),  # type: ignore[arg-type]  # in a package
        lambda: json.loads("{"),  # in Python's own
    ):
        with pytest.raises((InputError, AttributeError, json.JSONDecodeError)) as raised:
            call()
        assert re.search(r"\(test_command.py, line \d+, in <lambda>\)$", told(raised.value))


def test_help_explains_what_name_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    assert "MODULE:NAME" in capsys.readouterr().out
