"""Final results of runs side by side: what is pooled, what is kept apart, what is left out."""

import csv
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import yaml

from metarl import envs
from metarl.experiments.arguments import plain_console
from metarl.experiments.cli import main
from metarl.experiments.settings import read_settings, shared_floors
from metarl.statistics import interquartile_mean

NAME = "metarl/PointNavigation-v0"
NAVIGATION: dict[str, object] = {"name": NAME, **dataclasses.asdict(envs.preset(NAME))}
EVAL = "eval/000002_tasks8_adaptations1.json"
FLOOR = {"mean": [-9.0, -9.0], "iqm": [-9.0, -9.0], "ci_low": [-10.0] * 2, "ci_high": [-8.0] * 2}


def write_run(
    folder: Path,
    seed: int,
    shift: float,
    score: str = "return",
    floors: Mapping[str, object] = MappingProxyType({"random": FLOOR}),
    **changes: object,
) -> np.ndarray:
    """Write a finished run of two meta-iterations; return its scores [8 tasks, 2]."""
    (folder / "eval").mkdir(parents=True)
    config = {"preset": "maml|trpo/x_y", "seed": seed, "episodes": 20, "env": NAVIGATION}
    config |= {"agent": {"inner_lr": changes.pop("lr", 0.1)}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | changes))
    rows = [
        {"iteration": i, "env_steps": 1e6 * i, "meta/post_return": 0.0}
        | {"time/sampling_s": 30.0, "time/update_s": 60.0}
        for i in (1, 2)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    noise = np.random.default_rng(seed).normal(size=(8, 2))
    scores: np.ndarray = noise + np.array([shift, shift + 5.0])
    content = {"per_task": scores.tolist(), "score": score, "references": dict(floors)}
    (folder / EVAL).write_text(json.dumps(content))
    (folder / "eval" / "000001_tasks9_adaptations1.json").write_text("{}")  # of an earlier sitting
    (folder / "DONE").write_text("{}")
    return scores


def rows_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    assert main(["table", *arguments, "--format", "csv"]) == 0
    return list(csv.reader(capsys.readouterr().out.splitlines()))


def test_seeds_of_a_setting_are_pooled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [write_run(tmp_path / str(seed), seed, 0.0) for seed in (1, 2)]
    head, line, floor = rows_of(capsys, *(str(tmp_path / str(seed)) for seed in (1, 2)))
    row = dict(zip(head, line, strict=True))
    assert (row["setting"], row["seeds"], row["iterations"]) == ("maml|trpo/x_y", "2", "2")
    assert (row["env steps"], row["wall time"]) == ("2.00M", "3.0 min")
    expected = interquartile_mean(np.concatenate(both)[:, 1])
    assert row["after 1"].startswith(f"{expected:.2f} [")
    assert (head[0], floor[1]) == ("environment", "random")
    assert floor[-1] == "-9.00 [-10.00, -8.00]"


def test_settings_are_never_averaged_and_the_best_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", 1, -3.0)
    write_run(tmp_path / "b", 1, 3.0, lr=0.2)
    _, first, second, _ = rows_of(capsys, str(tmp_path / "a"), str(tmp_path / "b"))
    assert (first[2], second[2]) == ("1", "1")
    assert float(first[-1].split()[0]) > float(second[-1].split()[0]) + 3.0


def test_environments_are_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", 1, 0.0)
    write_run(tmp_path / "b", 1, 0.0, env=NAVIGATION | {"horizon": 50})
    rows = rows_of(capsys, str(tmp_path / "a"), str(tmp_path / "b"))
    assert [row[0].split(":")[0] for row in rows if row[1] == "maml|trpo/x_y"] == [
        "metarl/PointNavigation-v0, maml-2017",
        "metarl/PointNavigation-v0 (horizon 50)",
    ]


def test_what_cannot_be_read_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(("good", "unfinished", "corrupt")):
        write_run(tmp_path / name, seed, 0.0)
    (tmp_path / "unfinished" / "DONE").unlink()
    (tmp_path / "corrupt" / EVAL).write_text('{"per_task')
    folders = [str(tmp_path / name) for name in ("good", "unfinished", "corrupt", "missing")]
    assert main(["table", *folders]) == 0
    said = capsys.readouterr()
    assert said.out.count("maml\\|trpo/x_y") == 1
    for line, name in zip(said.err.splitlines(), folders[1:], strict=True):
        assert line.startswith(f"left out: {name} ")
    assert main(["table", *folders[1:]]) == 2


def test_latex_is_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", 1, 0.0)
    assert main(["table", str(tmp_path / "a"), "--format", "latex"]) == 0
    out = capsys.readouterr().out
    assert r"maml|trpo/x\_y & 1 & 2 & 2.00M" in out
    assert out.count(r"\begin{tabular}{llrrrrr}") == 1


def test_a_seed_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder named twice, and a run that was repeated in another one."""
    for name, seed in (("a", 1), ("again", 1), ("b", 2)):
        write_run(tmp_path / name, seed, 0.0, device="cuda" if name == "again" else "cpu")
    a, again, b = (str(tmp_path / name) for name in ("a", "again", "b"))
    assert main(["table", a, a, again, b, "--format", "csv"]) == 0
    said = capsys.readouterr()
    head, line, _ = csv.reader(said.out.splitlines())
    assert dict(zip(head, line, strict=True))["seeds"] == "2"
    assert said.err.splitlines() == [
        f"left out: {folder} has the setting and the seed of {a}: choose one"
        for folder in (a, again)
    ]


def test_settings_of_a_preset_have_names_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", 1, 3.0, told=False)
    write_run(tmp_path / "b", 1, 2.0, told=True)
    write_run(tmp_path / "c", 1, 1.0, told=False, lr=0.01)
    rows = rows_of(capsys, *(str(tmp_path / name) for name in "abc"))
    assert [row[1] for row in rows[1:4]] == [
        "maml|trpo/x_y (inner_lr 0.1, told False)",
        "maml|trpo/x_y (inner_lr 0.1, told True)",
        "maml|trpo/x_y (inner_lr 0.01, told False)",
    ]


def test_code_of_several_commits_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sittings: list[list[object]] = [
        [{"git": {"commit": "a" * 40, "dirty": False}}],
        [{"git": None}, {"git": {"commit": "a" * 40, "dirty": False}}],
        [{"git": {"commit": "a" * 40, "dirty": True}}, {"git": {"commit": "b" * 40, "dirty": 0}}],
    ]
    for seed, told in enumerate(sittings):
        write_run(tmp_path / str(seed), seed, 0.0)
        (tmp_path / str(seed) / "system.json").write_text(json.dumps({"sittings": told}))
    first, second, third = (str(tmp_path / str(seed)) for seed in range(3))
    assert main(["table", first, second]) == 0
    assert capsys.readouterr().err == ""
    assert main(["table", first, second, third]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "note: maml|trpo/x_y: runs of several commits: aaaaaaaa, aaaaaaaa (changed), bbbbbbbb"
    ]


def test_totals_over_other_numbers_of_episodes_are_kept_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Means of an episode are not."""
    for score in ("total reward of a round", "mean return of an episode"):
        for episodes in (1, 6):
            folder = tmp_path / f"{score.split()[0]}{episodes}"
            write_run(folder, 1, 0.0, score=score, episodes=episodes)
    runs = [str(tmp_path / name) for name in ("total1", "total6", "mean1", "mean6")]
    rows = [row for row in rows_of(capsys, *runs) if row[1].startswith("maml|trpo/x_y")]
    totals = [row[0].split(": ")[1].split(",")[0] for row in rows[:2]]
    assert totals == [f"total reward of a round of {n}" for n in ("1 episode", "6 episodes")]
    assert [row[1] for row in rows[2:]] == [f"maml|trpo/x_y (episodes {n})" for n in (1, 6)]


def test_the_best_is_who_is_best_after_adapting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"late": [0.0, 5.0], "early": [9.0, 4.0]}
    for name, row in scores.items():
        write_run(tmp_path / name, 1, 0.0, preset=name)
        content = {"per_task": [row], "score": "return", "references": {}}
        (tmp_path / name / EVAL).write_text(json.dumps(content))
    rows = rows_of(capsys, str(tmp_path / "early"), str(tmp_path / "late"))
    assert [row[1] for row in rows[1:]] == ["late", "early"]
    for name, row in scores.items():
        content = {"per_task": [row[:1]], "score": "return", "references": {}}
        (tmp_path / name / EVAL).write_text(json.dumps(content))
    rows = rows_of(capsys, str(tmp_path / "early"), str(tmp_path / "late"))
    assert [row[1] for row in rows[1:]] == ["early", "late"]


def test_of_evaluations_on_as_many_tasks_the_longest_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, order in (("a", (0, 2, 3)), ("b", (3, 2, 0))):
        write_run(tmp_path / name, 1, 0.0)
        for adaptations in order:
            content: dict[str, Any] = {"score": "return", "references": {}}
            content |= {"per_task": [[float(n) for n in range(adaptations + 1)]] * 8}
            file = f"000002_tasks8_adaptations{adaptations}.json"
            (tmp_path / name / "eval" / file).write_text(json.dumps(content))
        head, line = rows_of(capsys, str(tmp_path / name))
        assert head[-1] == "after 3"
        assert line[-1].startswith("3.00")


@pytest.mark.parametrize("suffix", ["_shifted", "_shots5", "_meta-world", ".old"])
def test_evaluations_of_other_protocols_are_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    write_run(tmp_path / "a", 1, 0.0)
    expected = rows_of(capsys, str(tmp_path / "a"))
    other = {"per_task": [[100.0] * 9] * 9, "score": "return", "references": {}}
    place = tmp_path / "a" / "eval" / f"000002_tasks9_adaptations8{suffix}.json"
    place.write_text(json.dumps(other))
    assert rows_of(capsys, str(tmp_path / "a")) == expected


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.yaml", "a: 1\n", "env is missing"),
        ("config.yaml", "preset: 1\nseed: a\nepisodes: 1\nenv: []\n", "config.yaml: env must be"),
        ("config.yaml", "preset: a\nseed: 1\nepisodes: 1\nenv: {a: 1}\n", "KeyError: 'name'"),
        ("metrics.jsonl", "", "eval/ holds nothing of meta-iteration 0"),
        ("metrics.jsonl", '{"iteration": 2}\n{"iteration": 2}\n', "KeyError"),
        ("metrics.jsonl", "[" * 100_000 + '\n{"iteration": 1}\n', "line 1: not a line of metrics"),
        (EVAL, "{}", "tasks8_adaptations1.json: score is missing"),
        (EVAL, "[]", "must be a mapping, got []"),
        (EVAL, "[" * 100_000, "not JSON"),
        (EVAL, {"per_task": [1.0, 2.0]}, "per_task must be tuple[tuple[float, ...], ...]"),
        (EVAL, {"per_task": [[1.0], [1.0, 2.0]]}, "scores make no table"),
        (EVAL, {"per_task": [[float("inf")]]}, "not JSON: Out of range"),
        (EVAL, {"references": []}, "references must be dict"),
        (EVAL, {"references": {"random": [1.0]}}, "must be a mapping, got [1.0]"),
        (EVAL, {"references": {"random": FLOOR | {"iqm": [1.0]}}}, "scores make no table"),
        (EVAL, {"references": {"random": {"mean": [1.0]}}}, "references: iqm is missing"),
        ("system.json", '{"sittings": 3}', "TypeError"),
        ("system.json", "[]", "must be a mapping, got []"),
    ],
)
@pytest.mark.parametrize("command", ["table", "plot"])
def test_damaged_runs_are_left_out_in_one_line(
    tmp_path: Path,
    command: str,
    file: str,
    content: str | dict[str, object],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, seed in (("good", 1), ("bad", 2)):
        write_run(tmp_path / name, seed, 0.0)
    place = tmp_path / "bad" / file
    if isinstance(content, dict):
        content = json.dumps(json.loads(place.read_text()) | content)
    place.write_text(content)
    flags = ["--out", str(tmp_path / "a.png")] if command == "plot" else []
    assert main([command, str(tmp_path / "good"), str(tmp_path / "bad"), *flags]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"left out: {tmp_path / 'bad'} cannot be read: ")
    assert said in line


def test_floors_are_those_that_settings_share(tmp_path: Path) -> None:
    """A stored reference gives way to the run of that name."""
    other = FLOOR | {"iqm": [-5.0, -5.0]}
    floors = {
        "a": {"random": FLOOR, "fresh": FLOOR, "b": FLOOR, "told": FLOOR},
        "b": {"random": FLOOR, "fresh": other, "b": FLOOR},
        "c": {"random": FLOOR, "fresh": FLOOR},
    }
    for shift, (name, given) in enumerate(floors.items()):
        write_run(tmp_path / name, 1, -float(shift), preset=name, floors=given)
    (settings,) = read_settings([tmp_path / name for name in floors], plain_console()).values()
    a, b, _ = settings
    assert list(shared_floors(settings)) == ["random"]
    most = shared_floors(settings, but=1)
    assert list(most) == ["random", "fresh (not for b)"]
    assert most["fresh (not for b)"].iqm == (-9.0, -9.0)
    assert list(shared_floors([a, b], but=1)) == ["random"]
    assert list(shared_floors([a])) == ["random", "fresh", "b", "told"]
    assert list(shared_floors([b])) == ["random", "fresh"]
