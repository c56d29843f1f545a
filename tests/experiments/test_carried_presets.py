"""A preset on another environment, from the command line to its folder and its evaluation."""

import json
from pathlib import Path

import pytest

from metarl.checks import InputError
from metarl.experiments.cli import main
from metarl.experiments.sweep.plan import command_of, plan
from metarl.experiments.sweep.spec import SweepSpec
from tests.experiments.sweep.test_plan import understood


def test_a_carried_preset_is_trained_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the folder that its name makes."""
    monkeypatch.chdir(tmp_path)
    sizes = ["--tasks-per-update", "2", "--episodes", "2", "--evaluate-every", "0"]
    for iterations in ("1", "2"):
        command = ["train", "maml-trpo/navigation+GridNavi-v0", *sizes, "--iterations", iterations]
        assert main(command) == 0
    (folder,) = Path("runs").glob("*/*")
    assert folder.as_posix().startswith("runs/maml-trpo/navigation.GridNavi-v0__s1__")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1, 2]
    assert main(["evaluate", str(folder), "--tasks", "2", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["preset"] == "maml-trpo/navigation+GridNavi-v0"


def test_a_sweep_names_it_too(tmp_path: Path) -> None:
    names = ("promp/navigation+AntGoal-v0@maml-2017", "promp/navigation+AntGoal-v0")
    spec = SweepSpec(name="some", presets=names, seeds=(1,), set={"env.horizon": 7})
    jobs = plan(spec, tmp_path)
    assert [job.experiment.preset for job in jobs] == [*names]
    for job in jobs:
        assert understood(command_of(job)).experiment == job.experiment
        assert command_of(job)[:4] == ("train", job.experiment.preset, "--env.horizon", "7")


def test_a_sweep_refuses_what_it_cannot_be_carried_to() -> None:
    with pytest.raises(InputError, match="did you mean 'AntGoal-v0'"):
        SweepSpec(name="some", presets=("promp/navigation+AntGoals-v0",), seeds=(1,))
