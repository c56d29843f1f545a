"""docs/performance.md and the README quote speeds: each is what a file under results/bench says."""

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from metarl.envs import ENVS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECONDS = {"s": 1.0, "ms": 1e-3}
MEASURED_IN_PARTS = {"metarl/HalfCheetahVel-v0", "metarl/AntDir-v0", "metarl/Walker2dRandParams-v0"}
"""Their phases are in several files."""


def bench(name: str) -> Any:
    return json.loads((ROOT / "results" / "bench" / f"{name}.json").read_text(encoding="utf-8"))


def same(shown: str, value: float) -> None:
    """A figure is quoted with as many digits as it has."""
    digits = len(shown.partition(".")[2])
    assert float(shown.replace(",", "")) == round(value, digits), f"{shown} is {value}"


def rows_below(title: str, columns: int) -> list[list[str]]:
    text = PAGE.split(f"## {title}")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [row for row in rows[1:] if len(row) >= columns]


def test_before_and_after() -> None:
    work = bench("before_after")["work"]
    rows = [row for row in rows_below("One meta-iteration", 4) if row[0] in work]
    assert len(rows) == 4
    for name, before, now, ratio, *_ in rows:
        old = statistics.mean(one["seconds_per_iteration"] for one in work[name]["before"])
        new = statistics.mean(one["meta_iteration"]["median"] for one in work[name]["now"])
        for shown, value in ((before, old), (now, new)):
            number, unit = shown.split()
            same(number, value / SECONDS[unit])
        assert float(ratio) == pytest.approx(old / new, abs=0.011)


def test_iterations_on_another_machine() -> None:
    names = ("half-cheetah-dir", "navigation_64-64", "bandit_20-tasks", "reptile_navigation")
    phases = [bench(f"{name}_amd-iteration")["phases"] for name in names]
    cheetah, navigation, bandit, reptile = (
        one["iteration"]["meta_iteration"]["median"] for one in phases
    )
    text = " ".join(PAGE.split())
    shown = f"{cheetah:.1f} s, {navigation:.2f} s, {1e3 * bandit:.0f} ms and {reptile:.2f} s;"
    physics = 160_000 / phases[0]["sampling"]["raw_random_controls"]["median"]
    assert f"{shown} its bare half-cheetah physics takes {physics:.1f} s" in text
    assert cheetah / physics == pytest.approx(2.0, abs=0.05)


def test_iterations_beside_the_peer() -> None:
    rows = [row for row in rows_below("One meta-iteration", 8) if row[0] != "work"]
    names = ("half-cheetah-dir_amd", "navigation_64-64_amd", "bandit_20-tasks_amd")
    names_here = ("half-cheetah-vel", "navigation_64-64", "bandit_20-tasks")
    for row, amd, intel in zip(rows[-3:], names, names_here, strict=True):
        peer = float(row[1].split()[0])
        for shown, ratio, name in ((row[2], row[3], f"{amd}-iteration"), (row[4], row[5], intel)):
            seconds = bench(name)["phases"]["iteration"]["meta_iteration"]["median"]
            number, unit = shown.split()
            same(number, seconds / SECONDS[unit])
            assert float(ratio) == pytest.approx(peer / seconds, rel=0.02)
    extra = bench("half-cheetah-dir")["phases"]["import"]["metarl"]["median"]
    assert f"`import metarl` takes {extra:.2f} s" in PAGE


def test_iterations_of_further_families() -> None:
    text = " ".join(PAGE.split("Of further families")[1].split("## Sampling")[0].split())
    names = ("ant-dir_update", "walker2d-rand-params_update", "rl2_grid-navi", "rl2_grid-maze")
    ant, walker, navi, maze = (bench(name)["phases"]["iteration"] for name in names)
    seconds = [one["meta_iteration"]["median"] for one in (ant, walker, navi, maze)]
    assert f"takes {seconds[0]:.1f} s, of which {ant['stepping']['median']:.0%} are" in text
    assert f"{seconds[1]:.1f} s, of which {walker['update']['median']:.0%} are the update" in text
    assert f"{seconds[2]:.2f} s and `rl2/grid-maze` {seconds[3]:.2f} s" in text
    assert all(0.85 < one["update"]["median"] < 0.95 for one in (navi, maze))


def test_the_update_of_a_walker_that_falls() -> None:
    name = "walker2d-rand-params_update"
    now, before = (
        bench(name + when)["phases"]["update"]["meta_update"]["median"] for when in ("", "-before")
    )
    shown = f"its update takes {now:.1f} s, where it took {before:.1f} s"
    assert shown in " ".join(PAGE.split())


def test_sampling_beside_physics_and_peers() -> None:
    result = bench("half-cheetah-dir")
    sampling = {name: entry["median"] for name, entry in result["phases"]["sampling"].items()}
    text = PAGE.split("## Sampling")[1].split("What was done")[0]
    for name in ("with_policy", "raw_random_controls", "raw_policy_controls"):
        assert f"{round(sampling[name], -2):,.0f}" in text
    for name in ("share_of_raw_random_controls", "share_of_raw_policy_controls"):
        assert f"**{sampling[name]:.0%}** of bare batch physics" in text
    peers = {name: entry["median"] for name, entry in result["peers"].items()}
    for name in ("sb3_subproc", "gymnasium_async", "gymnasium_sync"):
        assert f"{round(peers[name], -2):,.0f}" in text
        assert re.search(rf"\b{peers[f'metarl_over_{name}']:.1f}\b", text)


def test_our_vec_env_beside_stable_baselines() -> None:
    result = bench("half-cheetah-dir_amd")
    share = result["phases"]["sampling"]["share_of_raw_policy_controls"]["median"]
    peers = {name: entry["median"] for name, entry in result["peers"].items()}
    text = PAGE.split("On the AMD machine")[1].split("What was done")[0]
    shown = [f"{share:.0%}", f"{peers['metarl_over_sb3_subproc']:.1f} times SB3"]
    shown += [
        f"{peers[f'metarl_vec_env_{number}_over_sb3_subproc']:.1f} times" for number in (8, 64)
    ]
    assert all(figure in text for figure in shown), shown


def test_sampling_of_ant_and_walker() -> None:
    text = PAGE.split("## Sampling")[1].split("What was done")[0]
    shown = []
    for name in ("ant-dir", "walker2d-rand-params"):
        sampling = bench(name)["phases"]["sampling"]
        rates = {key: entry["median"] for key, entry in sampling.items()}
        own, bare = (rates[f"share_of_raw_{kind}_controls"] for kind in ("policy", "random"))
        shown += [f"{round(rates['with_policy'], -2):,.0f}", f"{own:.0%}", f"{bare:.0%}"]
    told = re.search(
        r"the ant makes\s([\d,]+) .*?(\d+%).*?(\d+%).*build ([\d,]+), (\d+%) and (\d+%)", text, re.S
    )
    assert told
    assert list(told.groups()) == shown


def test_environments() -> None:
    entries = {row["name"].removeprefix("metarl/"): row for row in bench("envs")["environments"]}
    rows = {row[0]: row[1:] for row in rows_below("Environments", 3)}
    assert rows.keys() == entries.keys()
    for name, (copies, rate, *physics) in rows.items():
        figures = {key: one["median"] for key, one in entries[name]["figures"].items()}
        assert int(copies) == entries[name]["copies"]
        same(rate, figures["environment"])
        if "physics" in figures:
            same(physics[0], figures["physics"])
            assert physics[1] == f"{figures['share']:.0%}"


def test_further_families_by_phase() -> None:
    files = sorted((ROOT / "results" / "bench" / "families").glob("*.json"))
    results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    stored = {one["config"]["env"]["name"].removeprefix("metarl/"): one for one in results}
    rows = {row[0]: row[1:] for row in rows_below("Further families, by phase", 8)}
    assert rows.keys() == stored.keys()
    for name, (copies, rate, share, update, whole, *shares) in rows.items():
        config, phases = stored[name]["config"], stored[name]["phases"]
        medians = {
            kind: {key: entry["median"] for key, entry in figures.items()}
            for kind, figures in phases.items()
        }
        assert int(copies) == config["tasks_per_update"] * config["episodes"]
        same(rate, medians["sampling"]["with_policy"])
        if "share_of_raw_policy_controls" in medians["sampling"]:
            assert share == f"{medians['sampling']['share_of_raw_policy_controls']:.0%}"
        for shown, value in (
            (update, medians["update"]["meta_update"]),
            (whole, medians["iteration"]["meta_iteration"]),
        ):
            number, unit = shown.split()
            same(number, value / SECONDS[unit])
        assert shares == [f"{medians['iteration'][kind]:.0%}" for kind in ("stepping", "update")]


def test_every_family_has_results_by_phase() -> None:
    """Those of ``metarl bench PRESET``, under whatever name."""
    measured = set()
    for file in (ROOT / "results" / "bench").glob("**/*.json"):
        result = json.loads(file.read_text(encoding="utf-8"))
        if {"sampling", "update", "iteration"} <= result.get("phases", {}).keys():
            measured.add(result["config"]["env"]["name"])
    assert measured | MEASURED_IN_PARTS == set(ENVS)


def test_what_is_said_of_the_environments() -> None:
    rows = {row["name"]: row["figures"] for row in bench("envs")["environments"]}
    tensors = [one["environment"]["median"] / 1e6 for one in rows.values() if "share" not in one]
    shares = {name: one["share"]["median"] for name, one in rows.items() if "share" in one}
    assert f"make {min(tensors):.0f} to {max(tensors):.0f} million steps" in PAGE
    assert f"bodies {min(shares.values()):.0%} or more" in PAGE
    assert min(shares, key=lambda name: shares[name]) == "metarl/PointMaze-v0"


def test_what_each_step_of_the_work_gained() -> None:
    work = bench("steps")["work"]
    rows = [row for row in rows_below("The meta-update", 8) if row[0] != "commit"]
    assert [row[0].strip("`") for row in rows] == list(work["bandit"])
    for commit, _, *cells in rows:
        of_commit = [
            work[name][commit.strip("`")] for name in ("half-cheetah", "navigation", "bandit")
        ]
        values = [one[kind]["low"] for one in of_commit for kind in ("update", "iteration")]
        for cell, value in zip(cells, values, strict=True):
            number, unit = cell.split()
            same(number, value / SECONDS[unit])


def test_scaling() -> None:
    cells = bench("scaling_navigation_64-64")["cells"]
    rows = [row for row in rows_below("Scaling", 6) if " x " in row[0]]
    assert len(rows) == len(cells)
    for cell in cells:
        layout = f"{cell['processes']} x {cell['threads']}"
        (row,) = [row for row in rows if row[:2] == [layout, str(cell["tasks"])]]
        assert float(row[2]) == pytest.approx(cell["iteration_s"]["median"], rel=5e-3)
        same(row[3], cell["ms_per_task"])
        same(row[4], cell["env_steps_per_s"]["median"])
        same(row[5], cell["memory_mib"])


def test_the_readme_rounds_the_same_figures() -> None:
    work = bench("before_after")["work"]
    shown = {"half-cheetah": "3.8 s", "navigation": "0.6 s", "bandit": "20 ms"}
    for start, quoted in shown.items():
        (name,) = [name for name in work if name.startswith(start)]
        new = statistics.mean(one["meta_iteration"]["median"] for one in work[name]["now"])
        number, unit = quoted.split()
        assert float(number) == pytest.approx(new / SECONDS[unit], rel=0.04)
        assert quoted in README.split("## Speed")[1]


def test_learning_then_and_now() -> None:
    runs = {
        "navigation": ("navigation", "check-navigation"),
        "bandit": ("bandit", "check-bandit"),
        "half-cheetah-dir": ("half-cheetah-dir", "check-half-cheetah"),
    }
    rows = [row for row in rows_below("Learning", 4) if row[0] != "preset"]
    for (name, (then, now)), row in zip(runs.items(), rows, strict=True):
        assert row[0] == f"`maml-trpo/{name}`"
        iterations = []
        for run, shown in ((then, row[1]), (now, row[2])):
            (file,) = (ROOT / "results" / run / "eval").glob("*_tasks40_*.json")
            result = json.loads(file.read_text())
            iterations.append(str(result["iteration"]))
            figures = [result[key][1] for key in ("iqm", "ci_low", "ci_high")]
            assert shown == "{:.1f} ({:.1f} to {:.1f})".format(*figures)
        assert row[3] == ", ".join(iterations)
    for run, words in (
        ("half-cheetah-dir", "{}, {} and {} then"),
        ("check-half-cheetah", "{}, {} and {} now"),
    ):
        lines = (ROOT / "results" / run / "metrics.jsonl").read_text().splitlines()
        returns = [json.loads(line)["meta/post_return"] for line in lines]
        means = [round(statistics.fmean(returns[end - 10 : end])) for end in (50, 100, 150)]
        assert words.format(*means) in " ".join(PAGE.split())
