"""Published experiments: their table, and what is said of them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from metarl.experiments.outcomes import Outcome
from metarl.experiments.presets import PRESETS
from metarl.experiments.reproduce.command import (
    ReproduceArgs,
    reproduce,
    reproduce_command,
    spec_of,
)
from metarl.experiments.reproduce.published import PUBLICATIONS, Claim, Protocol, Publication
from metarl.experiments.reproduce.verdict import judge
from metarl.experiments.sweep.plan import plan

CLAIM = Claim("some/setting", 1, 10.0, 0.5, "a paper")


def outcome(preset: str, after_one: list[float], seed: int = 1) -> Outcome:
    per_task = np.stack([np.zeros(len(after_one)), np.array(after_one)], axis=1)
    return Outcome(
        folder=Path(f"s{seed}"),
        config={},
        preset=preset,
        environment="somewhere",
        seed=seed,
        commits=frozenset(),
        learning=np.ones((3, 3)),
        per_task=per_task,
        score="mean return of an episode",
        floors={},
        length=3,
    )


@pytest.mark.parametrize(
    ("scores", "word"),
    [
        ([10.0] * 4, "reproduced"),
        ([12.0] * 4, "reproduced"),
        # 1.96 standard errors of the published number are 0.98.
        ([9.03] * 4, "reproduced"),
        ([9.01] * 4, "not reproduced"),
        # Wide enough an interval contains the number, on either side.
        ([4.0, 12.0] * 8, "reproduced"),
        ([4.0, 6.0] * 8, "not reproduced"),
    ],
)
def test_a_number_is_reproduced_where_our_interval_reaches_it(
    scores: list[float], word: str
) -> None:
    verdict = judge(CLAIM, [outcome("some/setting", scores)])
    assert verdict.word == word
    assert verdict.mean == pytest.approx(np.mean(scores))
    assert verdict.low <= verdict.mean <= verdict.high
    assert verdict.seeds == 1


def test_seeds_of_other_presets_do_not_count() -> None:
    runs = [outcome("some/setting", [10.0] * 4), outcome("some/setting", [12.0] * 4, seed=2)]
    verdict = judge(CLAIM, [*runs, outcome("another/setting", [-100.0] * 4)])
    assert (verdict.seeds, verdict.mean) == (2, 11.0)
    assert (verdict.low, verdict.high) == (10.0, 12.0)


def test_seeds_scored_on_more_tasks_count_with_those_that_all_have() -> None:
    runs = [outcome("some/setting", [10.0] * 4), outcome("some/setting", [12.0] * 4 + [99.0], 2)]
    verdict = judge(CLAIM, runs)
    assert (verdict.seeds, verdict.mean) == (2, 11.0)


def test_what_was_not_measured_is_said_to_be_so() -> None:
    beyond = CLAIM._replace(adaptations=2)
    for verdict in (judge(CLAIM, []), judge(beyond, [outcome("some/setting", [10.0] * 4)])):
        assert verdict.word == "not measured"
        assert math.isnan(verdict.mean)


@pytest.mark.parametrize("name", PUBLICATIONS)
@pytest.mark.parametrize("quick", [False, True])
def test_every_publication_can_be_planned(name: str, quick: bool, tmp_path: Path) -> None:
    publication = PUBLICATIONS[name]
    jobs = plan(spec_of(name, publication, quick=quick), tmp_path)
    assert len(jobs) == len(publication.presets) * (1 if quick else len(publication.seeds))
    for job in jobs:
        full = PRESETS[job.experiment.preset]().iterations
        assert job.experiment.iterations == (publication.quick_iterations if quick else full)
    assert {claim.preset for claim in publication.claims} == set(publication.presets)


def test_an_unknown_name_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="did you mean 'maml-2017-point'"):
        reproduce_command(["maml-2017-pont"])


def test_from_the_sweep_to_the_verdict_and_not_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claims = (
        Claim("maml-trpo/bandit", 0, 0.0, 0.0, "nobody"),
        Claim("maml-trpo/bandit", 1, 10.5, 0.0, "nobody"),
    )
    tiny = Publication(
        title="A bandit",
        presets=("maml-trpo/bandit",),
        seeds=(1, 2),
        claims=claims,
        quick_iterations=2,
        protocol=Protocol(tasks=50, adaptations=1),
    )
    args = ReproduceArgs(name="rl2-2016-bandits", quick=True, jobs=1, threads=1)
    assert reproduce("tiny", tiny, args, tmp_path) == 0
    told = capsys.readouterr()
    assert told.err.count("$ metarl evaluate") == 1
    assert "not reproduced" in told.out
    rows = json.loads((tmp_path / "verdicts.json").read_text())["rows"]
    assert [row["verdict"] for row in rows] == ["reproduced", "not reproduced"]
    assert 4.0 < rows[0]["mean"] < 6.0
    assert (tmp_path / "report.html").exists()
    assert reproduce("tiny", tiny, args, tmp_path) == 0
    assert "$ metarl evaluate" not in capsys.readouterr().err
