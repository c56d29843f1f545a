"""Plans: each setting once, ids that stay, and commands that make exactly the run."""

import dataclasses
import itertools
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from metarl.agents.maml import MamlTrpoConfig
from metarl.agents.promp import PrompConfig
from metarl.experiments.arguments import parse, preset_argument
from metarl.experiments.cli import TrainArgs, main
from metarl.experiments.experiment import Experiment, to_dict
from metarl.experiments.presets import PRESETS, preset
from metarl.experiments.sweep.command import shares
from metarl.experiments.sweep.plan import command_of, job_of, plan
from metarl.experiments.sweep.spec import SweepSpec, configured

SPEC = SweepSpec(
    name="some",
    presets=("maml-trpo/bandit", "promp/navigation"),
    seeds=(1, 2),
    set={"iterations": 5},
    grid={"agent.inner_lr": (0.1, 1e-5), "agent.policy.hidden_sizes": ((8,), (8, 9))},
)


def understood(command: tuple[str, ...]) -> TrainArgs:
    """Read a command as `metarl train` does."""
    experiment, flags = preset_argument("train", command[1:])
    return parse(TrainArgs, flags, "train", TrainArgs(experiment))


def test_every_setting_and_seed_is_planned_once(tmp_path: Path) -> None:
    jobs = plan(SPEC, tmp_path)
    made = set()
    for job in jobs:
        agent, seed = job.experiment.agent, job.experiment.seed
        assert isinstance(agent, MamlTrpoConfig | PrompConfig)
        made.add((job.experiment.preset, agent.inner_lr, agent.policy.hidden_sizes, seed))
    grid = itertools.product(SPEC.presets, *SPEC.grid.values(), SPEC.seeds)
    assert made == set(grid)
    assert len(jobs) == 16 == len({job.id for job in jobs}) == len({job.folder for job in jobs})
    assert all(job.experiment.iterations == 5 for job in jobs)
    assert [job.experiment.seed for job in jobs] == [1] * 8 + [2] * 8
    assert jobs == plan(SPEC, tmp_path)


def test_settings_that_come_out_the_same_are_one_run(tmp_path: Path) -> None:
    twice = dataclasses.replace(SPEC, grid={"agent.inner_lr": (1, 1.0)}, seeds=(3, 3))
    assert len(plan(twice, tmp_path)) == 2


def test_ids_tell_everything_apart_but_the_threads() -> None:
    def identity(**changes: Any) -> str:
        changed = dataclasses.replace(preset("promp/navigation"), **changes)
        return job_of(changed, Path("out"), "").id

    ids = {identity(), identity(seed=9), identity(iterations=9), identity(evaluate_every=9)}
    assert len(ids) == 4
    assert identity(threads=9) == identity()


@pytest.mark.parametrize("name", PRESETS)
def test_the_command_of_a_run_makes_exactly_that_run(name: str, tmp_path: Path) -> None:
    out = tmp_path / "a folder"
    for experiment in (preset(name), varied(preset(name))):
        job = job_of(experiment, out, "")
        args = understood(command_of(job))
        assert args.experiment == experiment
        assert to_dict(args.experiment) == to_dict(experiment)
        assert args.out == job.folder


def varied(experiment: Experiment) -> Experiment:
    """Change all fields that take another value of their kind without a second change."""
    for key in leaves(experiment):
        if key not in ("preset", "device", "threads"):
            experiment = changed_at(experiment, key.split("."))
    return experiment


def leaves(config: Any, above: str = "") -> list[str]:
    found = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        inner = dataclasses.is_dataclass(value)
        place = f"{above}{field.name}"
        found += leaves(value, f"{place}.") if inner else [place]
    return found


def changed_at(config: Any, place: list[str]) -> Any:
    name, *rest = place
    value = getattr(config, name)
    candidates = [changed_at(value, rest)] if rest else others(value)
    for candidate in candidates:
        try:
            return dataclasses.replace(config, **{name: candidate})
        except ValueError:
            continue
    return config


def others(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 2, value + 1]
    if isinstance(value, float):
        return [value * 0.987654321e-3, value * 0.987654321, -value]
    if isinstance(value, tuple):
        return [(*value, 7), tuple(7 for _ in value)]
    words = "relu tanh dice ratio sgd adam disc corners nearby per_layer"
    return [word for word in words.split() if word != value]


def test_print_writes_what_a_shell_understands_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, out = tmp_path / "s.yaml", tmp_path / "it's; $HOME"
    spec.write_text("presets: [maml-trpo/bandit]\nseeds: [1, 2]\nset: {iterations: 3}\n")
    flags = ["--launcher", "print", "--threads", "3"]
    assert main(["sweep", str(spec), "--out", str(out), *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    written = json.loads((out / "plan.json").read_text())["runs"]
    assert len(lines) == len(written) == 2
    for line, run, seed in zip(lines, written, (1, 2), strict=True):
        variable, program, *command = shlex.split(line)
        assert (variable, program) == ("OMP_NUM_THREADS=3", "metarl")
        args = understood(tuple(command))
        assert args.experiment.threads == 3
        expected = configured("maml-trpo/bandit", seed, {"iterations": 3})
        assert dataclasses.replace(args.experiment, threads=0) == expected
        assert run["config"] == to_dict(expected)
        assert args.out == out / run["folder"]
    assert not (out / "runs").exists()


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        # jobs, threads, runs, cores -> runs at a time, threads of each
        ((0, 0, 100, 8), (8, 1)),
        ((0, 0, 3, 8), (3, 2)),
        ((2, 0, 100, 8), (2, 4)),
        ((0, 3, 100, 8), (2, 3)),
        ((4, 4, 100, 8), (4, 4)),
        ((16, 0, 100, 8), (16, 1)),
        ((0, 16, 100, 8), (1, 16)),
        ((0, 0, 0, 8), (1, 8)),
        ((0, 0, 100, None), (100, 1)),
        ((5, 2, 100, None), (5, 2)),
    ],
)
def test_runs_share_the_cores(
    asked: tuple[int, int, int, int | None], given: tuple[int, int]
) -> None:
    assert shares(*asked) == given
