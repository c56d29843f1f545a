"""Sweeps through submitit, with its executor of local processes in the place of Slurm."""

import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from metarl.experiments.cli import main
from metarl.experiments.sweep.plan import plan
from metarl.experiments.sweep.slurm import ClusterRun
from metarl.experiments.sweep.spec import read_spec
from metarl.locks import acquire_lock
from tests.experiments.sweep.drivers import folders, iterations, wait_for, write_spec, writers

pytest.importorskip("submitit")
FLAGS = ["--launcher", "slurm", "--slurm.cluster", "local"]


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_a_job_that_is_preempted_saves_is_requeued_and_finishes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, out = write_spec(tmp_path, 100, seeds=1), tmp_path / "out"
    reached: list[int] = []

    def preempt() -> None:
        wait_for(lambda: any(len(iterations(run)) > 5 for run in folders(out)))
        (run,) = writers(out)
        # The parent of the run is the process that Slurm would send the signal to.
        stat = Path(f"/proc/{run}/stat").read_text()
        os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGUSR2)
        wait_for(lambda: not writers(out))
        reached.extend(iterations(folders(out)[0]))

    preemption = threading.Thread(target=preempt)
    preemption.start()
    assert main(["sweep", str(spec), "--out", str(out), *FLAGS]) == 0
    preemption.join()
    assert "1 of 1 runs are done, 0 failed" in capsys.readouterr().err
    (run,) = folders(out)
    assert iterations(run) == list(range(1, 101))
    (log,) = (out / "logs").iterdir()
    # It had saved the iteration in hand.
    assert f"resuming {run} after meta-iteration {reached[-1]}\n" in log.read_text()
    assert log.read_text().count("$ metarl train") == 2


def test_without_slurm_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("srun") is not None:
        pytest.skip("there is Slurm here")
    spec, out = write_spec(tmp_path, 3), tmp_path / "out"
    assert main(["sweep", str(spec), "--out", str(out), "--launcher", "slurm"]) == 2
    assert "no srun on this machine" in capsys.readouterr().err


def test_a_damaged_book_of_jobs_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, out = write_spec(tmp_path, 3, seeds=1), tmp_path / "out"
    assert main(["sweep", str(spec), "--out", str(out), "--launcher", "print"]) == 0
    for text in ("{", '["1"]', '{"x": 1}'):
        (out / "slurm.json").write_text(text)
        assert main(["sweep", str(spec), "--out", str(out), *FLAGS]) == 2
        assert f"metarl: {out / 'slurm.json'}: " in capsys.readouterr().err


def test_a_run_that_was_submitted_twice_is_made_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (job,) = plan(read_spec(write_spec(tmp_path, 3, seeds=1)), out)
    job.folder.mkdir(parents=True)
    lock = acquire_lock(job.folder / "lock")

    def finish() -> None:
        (job.folder / "DONE").touch()
        os.close(lock)

    timer = threading.Timer(0.2, finish)
    timer.start()
    assert ClusterRun(job, out, 1)() == 0
    assert not (out / "logs").exists()
