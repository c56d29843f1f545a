"""Local sweeps: what is retried, what is listed, what is shown."""

import os
import signal
import threading
from pathlib import Path

import pytest

from metarl.experiments.cli import main
from metarl.experiments.group import StopRequest
from metarl.experiments.sweep.local import launch_local
from metarl.experiments.sweep.plan import LaunchRequest, SlurmConfig, plan
from metarl.experiments.sweep.spec import read_spec
from metarl.locks import acquire_lock
from tests.experiments.sweep.drivers import folders, iterations, wait_for, write_spec, writers


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_a_killed_run_is_retried_and_a_broken_one_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, out = write_spec(tmp_path, 20), tmp_path / "out"
    # What lies where the user stands is no module of the run's.
    (tmp_path / "yaml.py").write_text("raise SystemExit('not a module')")
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", str(spec), "--out", str(out), "--launcher", "print"]) == 0
    commands = capsys.readouterr().out.splitlines()
    second = Path(commands[1].split("--out ")[1].split()[0])
    second.mkdir(parents=True)
    (second / "letter.txt").write_text("not a run")

    def kill_the_first_run() -> None:
        wait_for(lambda: any(len(iterations(run)) > 5 for run in folders(out)))
        os.kill(writers(out)[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first_run)
    killer.start()
    assert main(["sweep", str(spec), "--out", str(out), "--jobs", "2"]) == 1
    killer.join()
    said = capsys.readouterr().err
    assert "[0/2] retried  maml-trpo/bandit s1" in said
    assert "[1/2] done     maml-trpo/bandit s1  return " in said
    assert "1 of 2 runs are done, 1 failed" in said
    assert "failed with status 2: maml-trpo/bandit s2" in said
    assert "is not a run folder: 'letter.txt'" in said
    first = next(run for run in folders(out) if run != second)
    assert iterations(first) == list(range(1, 21))
    log = out / "logs" / f"{first.name.rpartition('_')[2]}.log"
    assert log.read_text().count("$ metarl train maml-trpo/bandit") == 2
    # What is in the way goes; the same command makes what is missing, and only that.
    (second / "letter.txt").unlink()
    assert main(["sweep", str(spec), "--out", str(out)]) == 0
    said = capsys.readouterr().err
    assert "maml-trpo/bandit s1" not in said
    assert "2 of 2 runs are done, 0 failed" in said


def test_a_run_that_another_process_finishes_meanwhile_is_not_made_again(tmp_path: Path) -> None:
    spec, out = write_spec(tmp_path, 20, seeds=1), tmp_path / "out"
    (job,) = plan(read_spec(spec), out)
    job.folder.mkdir(parents=True)
    lock, changes = acquire_lock(job.folder / "lock"), list[str]()

    def finish() -> None:
        (job.folder / "DONE").touch()
        os.close(lock)

    timer = threading.Timer(0.3, finish)
    timer.start()
    request = LaunchRequest(out, 1, 1, 0, StopRequest(), SlurmConfig())
    assert launch_local([job], request, lambda _, state: changes.append(state)) == {job.id: 0}
    assert changes == ["done"]
    assert not (out / "logs").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--launcher", "slrum"], "did you mean 'slurm'?"),
        (["--jobs", "-1"], "SweepArgs.jobs must be a whole number"),
    ],
)
def test_flags_are_checked_before_anything_is_written(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, out = write_spec(tmp_path, 3), tmp_path / "out"
    assert main(["sweep", str(spec), "--out", str(out), *flags]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write_spec(tmp_path, 3)
    assert main(["sweep", str(spec), "--out", str(tmp_path)]) == 2
    assert "'tiny.yaml' but no plan.json" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.yaml"]


def test_ranges_are_for_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = write_spec(tmp_path, 3)
    spec.write_text(spec.read_text() + "search:\n  agent.inner_lr: {low: 0.1, high: 1}\n")
    assert main(["sweep", str(spec), "--out", str(tmp_path / "out")]) == 2
    assert "ranges under search are for `metarl search`" in capsys.readouterr().err
