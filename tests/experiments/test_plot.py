"""Runs in one figure: which lines there are, what they are called, what is refused."""

import json
from pathlib import Path

import pytest
import yaml

from metarl.experiments.cli import main
from metarl.experiments.outcomes import by_environment, labels, read_outcomes
from metarl.experiments.plot import learning_curve

NAVIGATION = {"name": "metarl/PointNavigation-v0", "horizon": 100}
FLOOR = {"mean": [-9.0, -9.0], "iqm": [-9.0, -9.0], "ci_low": [-10.0] * 2, "ci_high": [-8.0] * 2}


def write_run(
    folder: Path, seed: int, preset: str = "reptile/navigation", **changes: object
) -> Path:
    """Write a finished run of three meta-iterations that end at a return of 10 * seed."""
    (folder / "eval").mkdir(parents=True)
    agent = {"inner_lr": changes.pop("inner_lr", 0.1), "policy": {"activation": "tanh"}}
    config = {"preset": preset, "seed": seed, "adaptations": 1, "env": NAVIGATION, "agent": agent}
    config |= {"episodes": 20}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | changes))
    rows = [
        {"iteration": i, "env_steps": 1e6 * i * seed, "meta/post_return": 10.0 * seed - 3 + i}
        | {"time/sampling_s": 1.0, "time/update_s": 1.0}
        for i in (1, 2, 3)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = [[0.0, float(seed)], [1.0, seed + 1.0]]
    content = {"per_task": scores, "score": "return", "references": {"random": FLOOR}}
    (folder / "eval" / "000003_tasks2_adaptations1.json").write_text(json.dumps(content))
    (folder / "DONE").write_text("{}")
    return folder


def test_seeds_make_one_line(tmp_path: Path) -> None:
    outcomes, _ = read_outcomes([write_run(tmp_path / str(seed), seed) for seed in (1, 3)])
    ((setting,),) = by_environment(outcomes).values()
    steps, returns = learning_curve(setting)
    assert steps.tolist() == [2e6, 4e6, 6e6]
    assert returns.tolist() == [[8.0, 9.0, 10.0], [28.0, 29.0, 30.0]]
    assert labels([setting]) == ["reptile/navigation"]


def test_settings_of_a_preset_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", 1),
        write_run(tmp_path / "b", 1, adaptations=2),
        write_run(tmp_path / "c", 1, inner_lr=0.5),
        write_run(tmp_path / "d", 1, preset="maml-trpo/navigation", adaptations=7),
    ]
    ((*settings,),) = by_environment(read_outcomes(runs)[0]).values()
    assert sorted(labels(settings)) == [
        "maml-trpo/navigation",
        "reptile/navigation (adaptations 1, inner_lr 0.1)",
        "reptile/navigation (adaptations 1, inner_lr 0.5)",
        "reptile/navigation (adaptations 2, inner_lr 0.1)",
    ]


def test_a_figure_is_written_and_what_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(write_run(tmp_path / str(seed), seed, inner_lr=0.1 * seed)) for seed in range(1, 9)]
    out = tmp_path / "deep" / "figure.png"
    assert main(["plot", *runs, str(tmp_path / "missing"), "--out", str(out)]) == 0
    content = out.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert 20_000 < len(content) < 400_000
    said = capsys.readouterr()
    assert str(out) in said.out
    assert said.err.startswith(f"left out: {tmp_path / 'missing'}")


@pytest.mark.parametrize(
    ("changes", "out", "said"),
    [
        ({"env": NAVIGATION | {"horizon": 50}}, "a.png", "one figure shows one environment"),
        ({}, "a.pdf", "--out must end in .png, got"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    out: str,
    said: str,
) -> None:
    runs = [write_run(tmp_path / "a", 1), write_run(tmp_path / "b", 1, **changes)]
    assert main(["plot", *map(str, runs), "--out", str(tmp_path / out)]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / out).exists()
