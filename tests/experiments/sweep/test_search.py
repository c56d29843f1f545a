"""Searches: what is drawn, what is scored, what is given up, and what a kill leaves of them."""

import dataclasses
import json
import math
import statistics
from pathlib import Path

import pytest

from metarl.agents.maml import MamlTrpoConfig
from metarl.experiments.experiment import Experiment
from metarl.experiments.sweep.search_batch import BatchFailedError, go_through, rungs
from metarl.experiments.sweep.search_result import ranked, score_at, write_best
from metarl.experiments.sweep.search_study import Study, Trial
from metarl.experiments.sweep.spec import Range, read_spec
from tests.experiments.sweep.searches import METRIC, SPEC, Writer, search_of


def peak_at_one(experiment: Experiment, iteration: int) -> float:
    """Rise with the iterations, and be highest where inner_lr is 1 and there are 40 episodes."""
    assert isinstance(experiment.agent, MamlTrpoConfig)
    height = (
        10.0
        - math.log10(experiment.agent.inner_lr) ** 2
        + experiment.episodes / 100
        + experiment.seed
    )
    return height * iteration / 8


def distance(trial: Trial) -> float:
    inner_lr = trial.values["agent.inner_lr"]
    assert isinstance(inner_lr, float)
    return abs(math.log10(inner_lr))


def write_metrics(folder: Path, values: dict[int, float | None], rows: int) -> Path:
    lines = [
        {"iteration": at, "env_steps": at} | ({METRIC: values[at]} if at in values else {})
        for at in range(1, rows + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_score_is_the_mean_of_the_last_tenth_or_the_last_value(tmp_path: Path) -> None:
    every = write_metrics(tmp_path, {at: float(at * at) for at in range(1, 31)}, 30)
    assert score_at(every, METRIC, 30) == (28**2 + 29**2 + 30**2) / 3
    assert score_at(every, METRIC, 20) == (19**2 + 20**2) / 2
    assert score_at(every, METRIC, 5) == 25
    assert score_at(every, METRIC, 31) is None
    assert score_at(every, "meta/post_return", 30) is None
    assert score_at(tmp_path / "nowhere", METRIC, 1) is None
    rare = write_metrics(tmp_path, {10: 1.0, 20: 4.0}, 30)
    assert score_at(rare, METRIC, 30) == 4.0
    assert score_at(rare, METRIC, 19) == 1.0
    assert score_at(write_metrics(tmp_path, {29: 1.0, 30: None}, 30), METRIC, 30) is None


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    out = tmp_path / "a?b#c%20d e"
    trial = search_of(out, Writer(peak_at_one)).study.draw()
    assert search_of(out, Writer(peak_at_one)).study.trials == [trial]
    assert [file.name for file in tmp_path.iterdir()] == [out.name]
    assert [file.name for file in out.iterdir()] == ["search.db"]


def test_scores_are_means_over_seeds_and_the_highest_is_the_best(tmp_path: Path) -> None:
    search = search_of(tmp_path / "search", Writer(peak_at_one))
    go_through(search, trials=6, batch=4)
    trials = search.study.trials
    assert [trial.number for trial in trials] == list(range(6))
    for trial in trials:
        episodes = trial.values["episodes"]
        assert isinstance(episodes, int)
        height = 10 - distance(trial) ** 2 + episodes / 100 + statistics.fmean(SPEC.seeds)
        assert trial.score == pytest.approx(height)
    scores = [trial.score or 0.0 for trial in ranked(trials)]
    assert scores == sorted((trial.score or 0.0 for trial in trials), reverse=True)


def test_the_search_closes_in_on_high_scores(tmp_path: Path) -> None:
    ranges = {"agent.inner_lr": Range(low=0.01, high=10.0, log=True)}
    study = Study.open(tmp_path / "search.db", ranges, 1, {})
    for number in range(20):
        study.complete(number, -distance(study.draw()))
    # The first ten are drawn at random: 0.83 away from the peak, on average.
    assert statistics.fmean(map(distance, study.trials[10:])) < 0.6


def test_a_killed_search_draws_what_it_would_have_drawn_and_makes_no_run_twice(
    tmp_path: Path,
) -> None:
    whole = search_of(tmp_path / "whole", one := Writer(peak_at_one), prune=True)
    go_through(whole, trials=8, batch=4)
    broken = Writer(peak_at_one)
    for runs_before_kill in (1, 9):
        broken.kill_at = runs_before_kill
        with pytest.raises(KeyboardInterrupt):
            go_through(search_of(tmp_path / "broken", broken, prune=True), 8, 4)
    broken.kill_at = -1
    resumed = search_of(tmp_path / "broken", broken, prune=True)
    go_through(resumed, trials=8, batch=4)
    assert resumed.study.trials == whole.study.trials
    assert broken.written == one.written
    # What was drawn follows from the runs, so that the file of trials can be made again.
    (tmp_path / "broken" / "search.db").unlink()
    again = search_of(tmp_path / "broken", silent := Writer(peak_at_one), prune=True)
    go_through(again, trials=8, batch=4)
    assert again.study.trials == whole.study.trials
    assert not silent.written


def test_draws_differ_by_seed_and_more_trials_go_on_from_the_end(tmp_path: Path) -> None:
    writer = Writer(peak_at_one)
    go_through(search_of(tmp_path / "first", writer), trials=2, batch=2)
    study = search_of(tmp_path / "first", writer).study
    two = study.trials
    other = search_of(tmp_path / "second", Writer(peak_at_one), seed=2).study
    assert other.draw().values != two[0].values
    go_through(search_of(tmp_path / "first", writer), trials=4, batch=2)
    assert study.trials[:2] == two
    assert [trial.state for trial in study.trials] == ["complete"] * 4
    assert len({str(trial.values) for trial in study.trials}) == 4


def test_trials_below_the_median_at_a_rung_go_no_further(tmp_path: Path) -> None:
    assert rungs(8) == (2, 4)
    assert rungs(9) == (3, 5)
    assert rungs(2) == (1,)
    assert rungs(1) == ()
    search = search_of(tmp_path / "search", writer := Writer(peak_at_one), prune=True)
    go_through(search, trials=8, batch=4)
    complete: list[float] = []
    states = set()
    for first in range(0, 8, 4):
        # Curves are straight lines, so whoever is below at the first rung is so everywhere.
        bar = statistics.median(complete) if complete else -math.inf
        for trial in search.study.trials[first : first + 4]:
            states.add(trial.state)
            assert trial.score is not None
            at_the_end = trial.score * (4 if trial.state == "pruned" else 1)
            assert (trial.state == "pruned") == (at_the_end < bar)
        batch = search.study.trials[first : first + 4]
        complete += [t.score for t in batch if t.state == "complete" and t.score is not None]
    assert states == {"complete", "pruned"}
    assert set(writer.written.values()) == {2, 8}
    pruned = [trial for trial in search.study.trials if trial.state == "pruned"]
    assert list(writer.written.values()).count(2) == 2 * len(pruned)


def test_a_run_that_diverges_costs_its_trial_and_a_broken_machine_none(tmp_path: Path) -> None:
    writer = Writer(peak_at_one, {"trial 0 s2": 1, "trial 2 s1": 137})
    search = search_of(tmp_path / "search", writer)
    go_through(search, trials=4, batch=4)
    states = [trial.state for trial in search.study.trials]
    assert states == ["pruned", "complete", "failed", "complete"]
    reason = search.study.trials[2].reason
    assert reason.startswith("trial 2 s1 ended with status 137")
    assert [trial.number for trial in ranked(search.study.trials)] == sorted(
        (1, 3), key=lambda number: -(search.study.trials[number].score or 0)
    )
    writer.statuses = {f"trial {number} s{seed}": 74 for number in (4, 5) for seed in (1, 2)}
    with pytest.raises(BatchFailedError, match=r"trial 4 s1 ended with status 74.*\n.*trial 5 s1"):
        go_through(search, trials=6, batch=2)
    assert [trial.state for trial in search.study.trials[4:]] == ["running", "running"]
    writer.statuses = {}
    go_through(search, trials=6, batch=2)
    assert [trial.state for trial in search.study.trials[4:]] == ["complete", "complete"]


def test_the_best_values_make_a_sweep_with_seeds_of_its_own(tmp_path: Path) -> None:
    search = search_of(tmp_path / "search", Writer(peak_at_one))
    go_through(search, trials=2, batch=2)
    best = ranked(search.study.trials)[0]
    write_best(best, SPEC, METRIC, tmp_path / "best.yaml")
    spec = read_spec(tmp_path / "best.yaml")
    assert spec.seeds == (3, 4, 5, 6, 7)
    assert spec.set == {**SPEC.set, **best.values}
    assert not spec.search
    # Also where the search has taken the last seed that there is.
    last = dataclasses.replace(SPEC, seeds=(2, 2**63 - 1))
    write_best(best, last, METRIC, tmp_path / "best.yaml")
    assert read_spec(tmp_path / "best.yaml").seeds == (1, 3, 4, 5, 6)
