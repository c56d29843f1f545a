"""Pages show what ``metarl table`` says of the stored runs that they name."""

import glob
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from metarl import envs
from metarl.experiments.cli import main
from metarl.statistics import interquartile_mean

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
PAGE = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^<!-- metarl table ([^\n]+) -->\n(.*?)<!-- end -->$", re.M | re.S)
BLOCKS = BLOCK.findall(PAGE)
ELSEWHERE = [
    block
    for page in (ROOT / "docs" / "sweeps.md", *sorted((ROOT / "docs" / "agents").glob("*.md")))
    for block in BLOCK.findall(page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("patterns", "shown"), BLOCKS + ELSEWHERE)
def test_a_table_is_that_of_its_runs(
    patterns: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {pattern: sorted(glob.glob(pattern, root_dir=ROOT)) for pattern in patterns.split()}
    assert [pattern for pattern, matched in found.items() if not matched] == []
    runs = [run for matched in found.values() for run in matched]
    assert main(["table", *(str(ROOT / run) for run in runs)]) == 0
    said = capsys.readouterr()
    assert "left out" not in said.err
    assert said.out.strip() == shown.strip()


def test_every_stored_comparison_is_shown() -> None:
    folders = {path.parents[1].name for path in (ROOT / "results" / "compare").glob("*/*/DONE")}
    shown = {found for patterns, _ in BLOCKS for found in re.findall(r"compare/([^/]+)/", patterns)}
    assert folders == shown


def test_what_is_said_of_imaml_on_half_cheetah() -> None:
    run = RESULTS / "compare" / "half-cheetah-dir" / "imaml-trpo-s1"
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    accepted = [row["train/accepted"] for row in rows]
    assert (len(accepted), accepted.count(0.0)) == (100, 9)
    assert "the line search refused nine of a hundred" in " ".join(PAGE.split())


BANDITS = {  # row of the page: stored runs with n = 10 and n = 100, and after how many adaptations
    "RL^2": ("compare/bandit/rl2-s1", "compare/bandit-n100/rl2-s1", 0),
    "MAML, pulls after adapting to n": ("bandit", "compare/bandit-n100/maml-s1", 1),
}


def fifty_thousand(run: str) -> dict[str, Any]:
    (file,) = (RESULTS / run / "eval").glob("*tasks50000*.json")
    return dict(json.loads(file.read_text()))


def test_what_is_said_of_the_bandits() -> None:
    section = PAGE.split("## Bernoulli bandits")[1].split("## ")[0]
    lines = [re.split(r" *\| *", line) for line in section.split("<!--")[0].splitlines()]
    rows = {cells[1]: cells[2:-1] for cells in lines if len(cells) > 2}
    for name, (*runs, adaptations) in BANDITS.items():
        shown = rows[name]
        for cell, run in zip(shown, runs, strict=False):
            scores = [row[adaptations] for row in fifty_thousand(run)["per_task"]]
            error = statistics.stdev(scores) / len(scores) ** 0.5
            assert cell == f"{statistics.fmean(scores):.3f} +- {error:.3f}"
    ceilings = [fifty_thousand(run)["references"] for run in BANDITS["RL^2"][:2]]
    for name in ("best arm", "Bayes-optimal", "Gittins", "Thompson sampling", "UCB1", "random"):
        for cell, curves in zip(rows[name], ceilings, strict=False):
            assert cell == (f"{curves[name]['mean'][0]:.2f}" if name in curves else ""), name
    for run, published in zip(BANDITS["RL^2"][:2], ("0.07", "0.52"), strict=True):
        spread = statistics.stdev(row[0] for row in fifty_thousand(run)["per_task"])
        assert f"{spread / 1000**0.5:.2f}" == published
    before = [
        statistics.fmean(r[0] for r in fifty_thousand(run)["per_task"])
        for run in (BANDITS["MAML, pulls after adapting to n"][:2])
    ]
    assert "({:.2f} and {:.2f})".format(*before) in section


def test_what_is_said_of_the_long_bandits() -> None:
    file = RESULTS / "compare" / "bandit-n100" / "rl2-s1" / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    third, fourth = (
        statistics.fmean(row["meta/post_return"] for row in rows[first : first + 100])
        for first in (200, 300)
    )
    entropy = statistics.fmean(row["train/entropy"] for row in rows[300:])
    text = " ".join(PAGE.split())
    assert (
        f"it earns {third:.1f} in the third hundred of its meta-iterations and {fourth:.1f} in"
        in text
    )
    assert f"with {entropy:.2f} nats of entropy left" in text
    evaluated = fifty_thousand(BANDITS["RL^2"][1])
    own = statistics.fmean(row[0] for row in evaluated["per_task"])
    gittins = evaluated["references"]["Gittins"]["mean"][0]
    assert f"it ends {78.7 - own:.2f} below its paper, within the published mean's" in text
    assert 78.7 - own < 0.52
    assert f"and {gittins - own:.2f} below Gittins' index" in text


def test_what_is_said_of_half_cheetah() -> None:
    early = []
    for run in ("compare/half-cheetah-dir/promp-s1", "half-cheetah-dir"):
        lines = (RESULTS / run / "metrics.jsonl").read_text().splitlines()[90:100]
        early.append(statistics.fmean(json.loads(line)["meta/post_return"] for line in lines))
    text = " ".join(PAGE.split())
    assert "these two had {:.0f} and {:.0f} in training".format(*early) in text
    (file,) = (RESULTS / "compare/half-cheetah-dir/told-s1/eval").glob("*.json")
    told = [row[0] for row in json.loads(file.read_text())["per_task"]]
    assert len([score for score in told if score > 300.0]) == len(told) / 2
    assert len([score for score in told if score < 20.0]) == len(told) / 2
    (file,) = (RESULTS / "compare/half-cheetah-dir/pretrained-s1/eval").glob("*.json")
    assert max(map(abs, json.loads(file.read_text())["mean"])) < 1.0
    (file,) = (RESULTS / "compare/half-cheetah-dir/promp-s1/eval").glob("*.json")
    after_one_step = json.loads(file.read_text())["iqm"][1]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"(ProMP: {after_one_step:.0f} after one step)" in readme


def test_what_is_said_of_learning_from_scratch() -> None:
    text, folder = " ".join(PAGE.split()), RESULTS / "compare"
    navigation = json.loads((folder / "navigation" / "from-scratch.json").read_text())
    first, *_, last = (
        interquartile_mean(column) for column in zip(*navigation["per_task"], strict=True)
    )
    steps = navigation["env_steps"][-1]
    shown = (
        f"the {steps:,} steps that three adaptations see take PPO from {first:.1f} to {last:.1f}"
    )
    assert shown in text
    cheetah = json.loads((folder / "half-cheetah-dir" / "from-scratch_200k.json").read_text())
    tasks = envs.build("metarl/HalfCheetahDir-v0", threads=1)[0].held_out(2)
    ends = zip(tasks.parameter["direction"].tolist(), cheetah["per_task"], strict=True)
    forwards, backwards = (row[-1] for _, row in sorted(ends, reverse=True))
    steps = cheetah["env_steps"][-1]
    shown = f"after {steps:,} steps PPO has {forwards:.0f} forwards and {backwards:.0f} backwards"
    assert shown in text


def test_what_is_said_of_random_mdps() -> None:
    (file,) = (RESULTS / "compare" / "tabular-mdp" / "rl2-s1" / "eval").glob("*.json")
    result, text = json.loads(file.read_text()), " ".join(PAGE.split())
    totals = [sum(row) for row in result["per_task"]]
    error = statistics.stdev(totals) / len(totals) ** 0.5
    assert f"RL^2 {statistics.fmean(totals):.1f} +- {error:.1f}" in text
    chance, psrl, greedy, best = (
        result["references"][name]["mean"]
        for name in ("random", "PSRL", "greedy", "value iteration")
    )
    assert f"earns {sum(chance):.1f}, PSRL {sum(psrl):.1f}, a greedy player" in text
    assert f"knows the family {sum(greedy):.1f} and value iteration" in text
    assert f"which knows the task, {sum(best):.1f}" in text
    share, published = statistics.fmean(totals) / sum(best), 156.2 / sum(best)
    shares = f"{share:.3f} of value iteration, where the published RL^2, 156.2, has {published:.3f}"
    assert shares.replace("0.", ".") in text
    assert all(own > other for own, other in zip(result["mean"], psrl, strict=True))
    ahead = [own > other for own, other in zip(result["mean"], greedy, strict=True)]
    assert ahead == [True] * 2 + [False] * 8
    implied = f"ours has {statistics.fmean(totals) / 207.7:.3f} and the published one"
    assert f"{implied} {156.2 / 207.7:.3f}".replace("0.", ".") in text
    lines = (RESULTS / "compare" / "tabular-mdp" / "rl2-s1" / "metrics.jsonl").read_text()
    returns = [json.loads(line)["meta/post_return"] for line in lines.splitlines()]
    risen, full = (statistics.fmean(returns[end - 50 : end]) for end in (800, 1500))
    assert f"From there to the end its last episode gained {full - risen:.1f}." in text


def test_what_the_page_of_rl2_says_of_random_mdps() -> None:
    run = RESULTS / "compare" / "tabular-mdp" / "rl2-s1"
    lines = (run / "metrics.jsonl").read_text().splitlines()
    returns = [json.loads(line)["meta/post_return"] for line in lines]
    early, later, last = (statistics.fmean(returns[end - 10 : end]) for end in (60, 300, 1500))
    middle = statistics.fmean(returns[790:800])
    text = " ".join((ROOT / "docs" / "agents" / "rl2.md").read_text(encoding="utf-8").split())
    assert f"instead of 2, it earned {early:.1f}." in text
    shown = f"slowly: {later:.1f} after 15M steps, {middle:.1f} after 40M, {last:.1f} after 75M"
    assert shown in text


def test_what_is_said_of_grid_navi() -> None:
    (file,) = (RESULTS / "compare" / "grid-navi" / "rl2-s1" / "eval").glob("*.json")
    result, text = json.loads(file.read_text()), " ".join(PAGE.split())
    for curve in (result, result["references"]["Bayes-optimal"]):
        *first, last = (f"{value:.2f}" for value in curve["mean"])
        assert f"{', '.join(first)} and {last}" in text
    once, twice, *others = [f"{rate:.0%}" for rate in result["success"]]
    assert f"for {once} of the tasks, in the second for {twice}, and from the third" in text
    assert set(others) == {"100%"}


def test_what_is_said_of_maml_on_mazes() -> None:
    file = ROOT / "results" / "compare" / "grid-maze" / "maml-trpo-s1" / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    text = " ".join(PAGE.split())
    for name, words in (
        ("meta/post_return", "{:.2f} on average over the first ten iterations and {:.2f} over the"),
        ("train/entropy", "falls from {:.2f} to {:.2f} nats"),
    ):
        ends = [statistics.fmean(row[name] for row in part) for part in (rows[:10], rows[-10:])]
        assert words.format(*ends) in text
