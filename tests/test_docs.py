"""What the pages show holds: commands and flags exist, Python runs, quotes are true."""

import contextlib
import glob
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch

from metarl.checks import InputError
from metarl.experiments.cli import COMMANDS, main
from metarl.experiments.presets import preset
from metarl.experiments.sweep.spec import read_spec

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if "generated" not in path.parts]
TUTORIALS = DOCS / "tutorials"
EXAMPLE = "maml-trpo/navigation"
TAKE_A_PRESET = ("train", "scratch", "bench")
SMALL = {
    "train": "--iterations 1 --tasks-per-update 4 --episodes 2 --evaluate-every 0 --threads 1",
    "evaluate": "--tasks 2 --threads 1",
    "adapt": "--episodes 2",
}
"""What makes a command small enough for a test: of a flag that comes twice, the last one counts."""


def name_of(page: Path) -> str:
    return str(page.relative_to(DOCS))


def blocks(page: Path, *languages: str) -> list[str]:
    # All fences are read, so that the end of one is not taken for the beginning of another.
    fences = re.findall(r"^( *)```([^\n`]*)\n(.*?)^\1```$", page.read_text(), re.M | re.S)
    return [dedent(code) for _, language, code in fences if language in languages]


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each line in a plain block that starts with ``metarl``."""
    for block in blocks(page, "", "bash", "sh"):
        for line in re.findall(r"^ *(?:\$ )?metarl (.*)$", block.replace("\\\n", " "), re.M):
            yield shlex.split(line.partition(" | ")[0], comments=True)


def said_by(words: Sequence[str]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        assert main(words) == 0, words
    return said.getvalue()


@cache
def known_flags(*words: str) -> frozenset[str]:
    said = said_by([*words, "--help"])
    assert said.startswith("usage: metarl"), (words, said)
    return frozenset(re.findall(r"--[a-z][\w.-]*", said))


def check_command(words: Sequence[str]) -> None:
    name, *rest = words
    assert name in COMMANDS, words
    flags = {flag for word in rest for flag in re.findall(r"^\[?(--[\w.-]+)", word)} - {"--help"}
    place = [name]
    if name in TAKE_A_PRESET:
        kinds = [word for word in rest[:2] if re.fullmatch(r"[a-z].*", word)] or [EXAMPLE]
        assert all(preset(kind) for kind in kinds if kind not in ("envs", "gpu", "scaling")), words
        place += kinds
    if flags or name in TAKE_A_PRESET:
        assert flags <= known_flags(*place), words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_flags_exist(page: Path) -> None:
    for words in commands(page):
        check_command(words)


def test_a_wrong_command_would_be_found() -> None:
    for line in ("trian maml-trpo/bandit", "train maml/bandit", "table RUN --formt csv"):
        with pytest.raises((AssertionError, InputError)):
            check_command(line.split())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_compiles(page: Path) -> None:
    for code in blocks(page, "python"):
        compile(code, name_of(page), "exec")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "docs").symlink_to(DOCS)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def run_python(page: Path, big: str, small: str) -> dict[str, Any]:
    """Run a page's Python from top to bottom, with smaller numbers, but not what it quotes."""
    own = [code for code in blocks(page, "python") if not code.startswith("# cart_pole.py")]
    code = "\n".join(own)
    assert big in code
    names: dict[str, Any] = {}
    exec(compile(code.replace(big, small), name_of(page), "exec"), names)
    return names


def run_commands(page: Path, seeds: Sequence[str] = ("",)) -> None:
    """Run a page's commands, in small; those with ``$seed`` once for each seed."""
    for line in commands(page):
        name = line[0]
        if "--help" in line:
            continue
        small = SMALL.get(name, "").split()
        for seed in seeds if any("$seed" in word for word in line) else ("",):
            words = [word.replace("$seed", seed) for word in line]
            patterns = [sorted(glob.glob(word)) or [word] for word in words]
            arguments = [word for found in patterns for word in found]
            with contextlib.redirect_stdout(io.StringIO()):
                assert main([*arguments, *small]) == 0, words


def test_the_quickstart_runs(place: Path) -> None:
    run_commands(DOCS / "quickstart.md")
    assert {path.name for path in (place / "kept").iterdir()} >= {"policy.json"}
    assert (place / "compare.png").stat().st_size > 10_000
    names = run_python(
        DOCS / "quickstart.md",
        "iterations=30, tasks_per_update=20, episodes=20",
        "iterations=1, tasks_per_update=2, episodes=2",
    )
    assert names["returns"].shape == (5, 20)
    assert torch.isfinite(names["returns"]).all()


def test_the_benchmark_runs(place: Path) -> None:
    run_commands(TUTORIALS / "benchmark.md", seeds=("1", "2"))
    runs = {path.name for path in (place / "runs").iterdir()}
    assert runs == {"maml-1", "maml-2", "reptile-1", "reptile-2"}
    assert (place / "compare.pdf").read_bytes().startswith(b"%PDF")


def test_the_robot_task_runs(place: Path) -> None:
    run_commands(TUTORIALS / "own_robot.md")
    names = run_python(
        TUTORIALS / "own_robot.md",
        "iterations=40, tasks_per_update=20, episodes=10",
        "iterations=1, tasks_per_update=2, episodes=2",
    )
    assert {split: len(means) for split, means in names["returns"].items()} == {
        "test": 3,
        "shifted": 3,
    }
    assert (place / "policy.pt").stat().st_size > 1000
    assert len(names["frames"]) > 2
    assert (place / "cart_pole.gif").read_bytes().startswith(b"GIF")


def test_the_robot_task_is_quoted_truly() -> None:
    page = TUTORIALS / "own_robot.md"
    quotes = [code for code in blocks(page, "python") if code.startswith("# cart_pole.py")]
    template = (DOCS / "templates" / "cart_pole.py").read_text()
    assert len(quotes) == 2
    for code in quotes:
        assert code.partition("\n")[2].strip() in template
    (body,) = blocks(page, "xml")
    model = (DOCS / "templates" / "cart_pole.xml").read_text()
    assert [line.strip() for line in body.splitlines()] == [
        line.strip() for line in model.splitlines() if line.strip() in body
    ]


def test_the_sweep_is_what_the_tutorial_says(place: Path) -> None:
    page = TUTORIALS / "cluster.md"
    (text,) = blocks(page, "yaml")
    path = place / "step-sizes.yaml"
    path.write_text(text)
    spec = read_spec(path)
    assert len(spec.presets) * len(spec.seeds) * len(spec.grid["agent.inner_lr"]) == 30
    (line,) = [words for words in commands(page) if "print" in words]
    printed = said_by([*line, "--out", "sweep"]).splitlines()
    assert len(printed) == 30
    for command in printed:
        words = shlex.split(command)
        check_command(words[words.index("metarl") + 1 :])
