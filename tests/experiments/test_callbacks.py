"""Callbacks: when they stop a run, what of it is recorded, and that a resumed run does the same."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from metarl.checks import InputError
from metarl.experiments.arguments import plain_console
from metarl.experiments.callbacks import Callback, CheckpointEvery, EarlyStop, Reached, StopAtReturn
from metarl.experiments.cli import main
from metarl.experiments.experiment import FREE_FIELDS, Experiment, to_dict
from metarl.experiments.plot import learning_curve
from metarl.experiments.presets import preset
from metarl.experiments.progress import Progress
from metarl.experiments.record import Record, Sitting
from metarl.experiments.settings import read_settings
from metarl.experiments.train import train
from metarl.logger import read_metrics
from metarl.processes import ALONE
from metarl.runs import RunFolder
from metarl.trainer import Iteration
from tests.experiments.test_table import EVAL, write_run

BANDIT = "maml-trpo/bandit"
QUIET = plain_console(quiet=True)
SCORE = "mine/score"


class Scores:
    """A user's callback: reports a number at some meta-iterations, None at the others."""

    def __init__(self, values: Sequence[float | None]) -> None:
        self.values = values

    def on_iteration(self, reached: Reached) -> bool:
        value = self.values[reached.progress.iteration - 1]
        if value is not None:
            reached.metrics[SCORE] = value
        return True


class Once:
    """A user's callback: saves at one meta-iteration, and stops at another."""

    def __init__(self, save: int, stop: int) -> None:
        self.save, self.stop = save, stop

    def on_iteration(self, reached: Reached) -> bool:
        if reached.progress.iteration == self.save:
            reached.save()
        return reached.progress.iteration != self.stop


class Look:
    """Sees to it that a run is not called done while it goes on."""

    def on_iteration(self, reached: Reached) -> bool:
        assert not reached.run.done
        return True


def small(iterations: int, **changes: Any) -> Experiment:
    few = dataclasses.replace(preset(BANDIT), tasks_per_update=2, episodes=2, evaluate_every=0)
    return dataclasses.replace(few, iterations=iterations, **changes)


def run(out: Path, experiment: Experiment, *callbacks: Callback, go_on: bool = False) -> int:
    """Train; return how many meta-iterations there are then."""
    assert train(experiment, out, QUIET, sitting=Sitting(callbacks=callbacks, go_on=go_on)) == 0
    return len(read_metrics(out / "metrics.jsonl"))


def walk(out: Path, experiment: Experiment, *callbacks: Callback) -> Progress:
    """Go through a run's meta-iterations without training in them, and save at the end."""
    progress, sitting = Progress(experiment, ALONE), Sitting(callbacks=callbacks)
    with (
        RunFolder.open(out, to_dict(experiment), FREE_FIELDS) as folder,
        Record(progress, folder, QUIET, sitting) as record,
    ):
        last = progress.iteration if progress.over else experiment.iterations
        for number in range(progress.iteration + 1, last + 1):
            progress.count(Iteration(number, 10, {}))
            wishes = record.take({"time/fps": 1.0})
            if wishes.save:
                record.save()
            if wishes.stop:
                break
        record.save()
    return progress


def done(out: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((out / "DONE").read_text())
    return content


def weights(out: Path, iteration: int) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / f"{iteration:06d}" / "tensors.safetensors")


CASES: dict[str, tuple[list[float | None], float, int]] = {
    # values, min_delta, and the meta-iteration at which a patience of 2 ends
    "falls": ([3.0, 2.0, 1.0, 9.0], 0.0, 3),
    "stays": ([3.0, 3.0, 3.0, 9.0], 0.0, 3),
    "rises too late": ([1.0, 0.0, 2.0, 1.0, 2.0, 3.0], 0.0, 5),
    "rises too little": ([1.0, 1.4, 1.5, 9.0], 0.5, 3),
    "rises by more": ([1.0, 1.6, 1.0, 2.2, 2.0, 2.0, 9.0], 0.5, 6),
    "is seldom reported": ([3.0, None, 2.0, None, None, 1.0, 9.0], 0.0, 6),
    "is no number": ([1.0, math.nan, math.nan, 9.0], 0.0, 3),
}


@pytest.mark.parametrize("resumed_after", [None, 1, 2])
@pytest.mark.parametrize("case", CASES)
def test_patience_ends_where_it_should_resumed_or_not(
    case: str, resumed_after: int | None, tmp_path: Path
) -> None:
    values, min_delta, last = CASES[case]
    callbacks = (Scores(values), EarlyStop(patience=2, min_delta=min_delta, on=SCORE))
    if resumed_after:
        assert walk(tmp_path, small(resumed_after), *callbacks).iteration == resumed_after
    rule = f"EarlyStop(patience=2, min_delta={min_delta}, on='mine/score')"
    facts = {"iteration": last, "env_steps": 10 * last, "rules": rule, "stopped": rule}
    assert walk(tmp_path, small(len(values)), *callbacks).facts == facts
    assert walk(tmp_path, small(len(values))).facts == facts


@pytest.mark.parametrize(("value", "last"), [(2.0, 2), (2.0001, 3), (9.0, 4)])
def test_a_run_stops_when_a_value_is_reached(value: float, last: int, tmp_path: Path) -> None:
    stop = StopAtReturn(value=value, on=SCORE)
    progress = walk(tmp_path, small(4), Scores([1.0, 2.0, 3.0, None]), stop)
    assert (progress.iteration, progress.rules) == (last, repr(stop))
    assert progress.stopped == (repr(stop) if last < 4 else None)


def test_a_stop_at_the_last_meta_iteration_is_no_early_one(tmp_path: Path) -> None:
    assert walk(tmp_path, small(2), Once(save=0, stop=2)).stopped is None
    assert walk(tmp_path, small(3)).iteration == 3


def test_a_stopped_run_goes_on_only_when_asked_and_then_as_if_never_stopped(
    tmp_path: Path,
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run(whole, small(5)) == 5
    assert run(stopped, small(5), Once(save=0, stop=2)) == 2
    assert done(stopped)["stopped"] == "Once"
    first = done(stopped)
    assert run(stopped, small(7, threads=1)) == 2
    assert done(stopped) == first
    assert run(stopped, small(5), Look(), go_on=True) == 5
    assert done(stopped) == done(whole)
    expected = weights(whole, 5)
    assert all(torch.equal(leaf, expected[name]) for name, leaf in weights(stopped, 5).items())


def test_checkpoints_come_when_asked_for_and_after_the_metrics(tmp_path: Path) -> None:
    seen: list[tuple[int, list[str]]] = []

    class See:
        def on_iteration(self, reached: Reached) -> bool:
            folders = reached.run.checkpoints.glob("0*")
            seen.append((len(reached.history("time/fps")), sorted(p.name for p in folders)))
            return True

    walk(tmp_path, small(4, checkpoint_every=0), Once(save=3, stop=0), CheckpointEvery(2), See())
    assert seen == [(1, []), (2, []), (3, ["000002"]), (4, ["000002", "000003"])]
    assert max(p.name for p in (tmp_path / "checkpoints").iterdir()) == "000004"


def test_what_a_callback_adds_is_recorded(tmp_path: Path) -> None:
    walk(tmp_path, small(3), Scores([4.0, None, 5.0]))
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row.get(SCORE) for row in rows] == [4.0, None, 5.0]


def test_flags_stop_a_run_by_its_validations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--tasks-per-update", "2", "--episodes", "2", "--evaluate-every", "2"]
    command = ["train", BANDIT, "--iterations", "9", *flags, "--out", str(tmp_path / "run")]
    assert main([*command, "--stop-at", "-1", "--stop-patience", "3"]) == 0
    assert (
        "stops early at meta-iteration 2 of 9: StopAtReturn(value=-1.0" in capsys.readouterr().err
    )
    assert str(done(tmp_path / "run")["rules"]).startswith("EarlyStop(patience=3, ")
    assert main([*command, "--go-on", "--iterations", "3"]) == 0
    assert done(tmp_path / "run")["iteration"] == 3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--stop-patience", "-1"], "TrainArgs.stop_patience must be a whole number"),
        (["--stop-min-delta", "nan"], "TrainArgs.stop_min_delta must be"),
        (["--stop-patience", "2", "--evaluate-every", "0"], "need validations"),
        (["--stop-at", "inf"], "StopAtReturn.value must be a finite number, got inf"),
    ],
)
def test_rules_without_sense_are_refused(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", BANDIT, *flags]) == 2
    assert said in capsys.readouterr().err


def test_callbacks_refuse_values_out_of_range() -> None:
    for build in (lambda: EarlyStop(patience=0), lambda: CheckpointEvery(-1)):
        with pytest.raises(InputError, match="must be a whole number"):
            build()


def test_seeds_that_one_rule_may_stop_are_one_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules, folders = "StopAtReturn(value=5.0)", [tmp_path / name for name in "abcd"]
    ends: list[dict[str, str]] = [{"rules": rules, "stopped": rules}] * 2 + [{"rules": rules}, {}]
    for seed, (folder, facts) in enumerate(zip(folders, ends, strict=True)):
        write_run(folder, seed, 0.0)
        (folder / "DONE").write_text(json.dumps(facts))
    longer = folders[1]
    with (longer / "metrics.jsonl").open("a") as file:
        last = {"iteration": 3, "env_steps": 5e6, "meta/post_return": 7.0}
        file.write(json.dumps(last | {"time/sampling_s": 1.0, "time/update_s": 1.0}) + "\n")
    (longer / EVAL).rename(longer / EVAL.replace("000002", "000003"))
    ((ruled, free),) = (
        sorted(settings, key=lambda setting: -len(setting.outcomes))
        for settings in read_settings(folders, QUIET).values()
    )
    assert [outcome.iteration for outcome in ruled.outcomes] == [2, 3, 2]
    assert [outcome.length for outcome in free.outcomes] == [2]
    env_steps, returns = learning_curve(ruled)
    assert (env_steps.tolist(), returns.shape) == ([1e6, 2e6], (3, 2))
    assert main(["table", *map(str, folders), "--format", "csv"]) == 0
    lines = capsys.readouterr().out
    assert ",3,2 to 3," in lines
    assert "iterations StopAtReturn" in lines
