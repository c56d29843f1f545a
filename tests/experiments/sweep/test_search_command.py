"""`metarl search` as a user meets it: mistakes, kills, and what it leaves."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metarl.experiments.cli import main
from metarl.experiments.sweep.search_result import score_at
from metarl.experiments.sweep.spec import read_spec
from metarl.runs import read_config
from tests.experiments.sweep.drivers import folders, iterations, wait_for

SPEC = """\
presets: [maml-trpo/bandit]
seeds: [1]
set: {iterations: 30, tasks_per_update: 4, episodes: 4, checkpoint_every: 3, evaluate_every: 10}
search:
  agent.inner_lr: {low: 0.01, high: 1.0, log: true}
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "tiny.yaml"
    file.write_text(text)
    return file


def search(spec: Path, out: Path, *flags: str) -> int:
    return main(["search", str(spec), "--out", str(out), *flags])


def test_a_search_that_is_killed_loses_no_trial_and_doubles_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, out = write(tmp_path, SPEC), tmp_path / "out"
    flags = ["--trials", "2", "--batch", "2", "--jobs", "2", "--threads", "1"]
    command = [sys.executable, "-m", "metarl.experiments", "search", str(spec), "--out", str(out)]
    driver = subprocess.Popen([*command, *flags], stderr=subprocess.DEVNULL)
    wait_for(lambda: any(iterations(run) for run in folders(out)))
    time.sleep(random.Random(4).uniform(0.0, 0.5))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert search(spec, out, *flags) == 0
    assert "2 of 2 trials complete, each with 1 seed" in capsys.readouterr().out
    runs = folders(out)
    assert [iterations(run) for run in runs] == [list(range(1, 31))] * 2
    assert all((run / "DONE").exists() for run in runs)
    # What follows from the runs alone is what the search has stored.
    scores = {score_at(run, "validation/post_return", 30): run for run in runs}
    agent = read_config(scores[max(scores)])["agent"]  # type: ignore[type-var]
    best = read_spec(out / "best.yaml")
    assert isinstance(agent, dict)
    assert best.set["agent.inner_lr"] == agent["inner_lr"]
    # With other settings it would be another search.
    assert search(spec, out, "--batch", "3") == 2
    assert "batch: the run has 2, asked for 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "flags", "said"),
    [
        (("search:", "grid:"), [], "grid.agent.inner_lr must be a list of values"),
        (("[maml-trpo/bandit]", "[maml-trpo/bandit, reptile/bandit]"), [], "presets must hold one"),
        (
            ("agent.inner_lr: {low: 0.01, high: 1.0", "adaptations: {low: 1, high: 4"),
            [],
            "adaptations must be",
        ),
        (("0.01, high: 1.0, log: true", "2, high: 8"), ["--trials", "0"], "trials must be a whole"),
        (("evaluate_every: 10", "evaluate_every: 0"), [], "or choose --objective meta/post_return"),
        (("evaluate_every: 10", "evaluate_every: 10"), ["--prune"], "set it to 8 or less"),
        (("evaluate_every: 10", "evaluate_every: 10"), ["--objective", "eval"], "objective: no"),
        (
            ("agent.inner_lr: {low: 0.01, high: 1.0, log: true}", "device: {choices: [cpu]}"),
            [],
            "all trials train alike",
        ),
        (("set:", "grid: {adaptations: [1, 2]}\nset:"), [], "grid has no place in a search"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    flags: list[str],
    said: str,
) -> None:
    spec, out = write(tmp_path, SPEC.replace(*change)), tmp_path / "out"
    assert search(spec, out, *flags) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_file_that_is_no_search_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, out = write(tmp_path, SPEC), tmp_path / "out"
    out.mkdir()
    (out / "search.db").write_bytes(b"no database" * 100)
    assert search(spec, out) == 2
    assert f"{out}/search.db cannot be read" in capsys.readouterr().err
    (out / "search.db").unlink()
    (out / "thesis.tex").touch()
    assert search(spec, out) == 2
    assert "thesis.tex" in capsys.readouterr().err


def test_without_the_extras_the_command_says_what_to_install(tmp_path: Path) -> None:
    spec = write(tmp_path, SPEC)
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("presets: [maml-trpo/bandit]\nseeds: [1]\n")
    code = (
        "import sys\n"
        "sys.modules['optuna'] = sys.modules['ray'] = None\n"
        "from metarl.experiments.cli import main\n"
        f"search = main(['search', {str(spec)!r}, '--out', {str(tmp_path / 'one')!r}])\n"
        f"flags = ['--launcher', 'ray', '--out', {str(tmp_path / 'two')!r}]\n"
        f"sys.exit((search, main(['sweep', {str(sweep)!r}, *flags])) != (2, 2))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pip install 'metarl-suite[search]'" in done.stderr
    assert "pip install 'metarl-suite[ray]'" in done.stderr
