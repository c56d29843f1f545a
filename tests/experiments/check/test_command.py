"""``metarl check``: the command line reports what holds, and ends on what cannot be checked."""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from metarl import envs
from metarl.checks import EnvFaultError, InputError, told
from metarl.experiments.arguments import plain_console
from metarl.experiments.check.command import Report, check_named, print_report
from metarl.experiments.check.contract import RULES
from metarl.experiments.cli import main
from tests.envs.echoes import USER_CODE
from tests.experiments.check.faulty_points import findings

ROOT = Path(__file__).resolve().parents[3]
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


def test_what_a_search_did_not_find_is_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    found = findings("reads no task")["tasks differ"]
    assert (found.problem, found.checked) == (None, True)
    report = Report("my/Point-v0", [found])
    assert report.holds
    print_report(report, plain_console())
    assert "  note         tasks differ: 4 tasks could not" in capsys.readouterr().out


@pytest.mark.parametrize("name", envs.ENVS)
def test_the_suites_own_environments_pass(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", name]) == 0
    assert capsys.readouterr().out.count("  ok  ") == len(RULES)


@pytest.mark.parametrize("template", ["cart_pole.py", "tensor_env.py", "gymnasium_env.py"])
def test_a_template_passes(template: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{TEMPLATES / template}:ENV", "--json"]) == 0
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


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", ["hangs", "slow constructor"])
def test_an_environment_that_hangs_ends_the_check(tmp_path: Path, fault: str) -> None:
    name = f"{fault[:4]}_tasks"
    (tmp_path / f"{name}.py").write_text(
        GYM.format(folder=str(USER_CODE)).replace('"nan"', repr(fault))
    )
    what = f"{tmp_path / name}.py:ENV"
    if fault == "hangs":
        report = check_named(what, timeout=2.0)
        waited = [f.rule for f in report.findings if "did not answer" in (f.problem or "")]
        assert waited == ["step"]  # once, and not again for each rule
    else:
        with pytest.raises(EnvFaultError, match="make did not return within 2 s"):
            check_named(what, timeout=2.0)
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
