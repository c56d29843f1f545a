"""Runs in one figure: which lines there are, what they are called, what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from metarl.experiments.cli import main
from metarl.experiments.comparison import PANELS, comparison_figure
from metarl.experiments.outcomes import read_outcomes
from metarl.experiments.plot import compared, learning_curve, renamed
from metarl.experiments.settings import Setting, by_environment, labels

BLUE, RED, GREY = "#0072B2", "#D55E00", "#6b6b6b"

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


def test_seeds_that_stopped_early_end_the_line(tmp_path: Path) -> None:
    outcomes, _ = read_outcomes([write_run(tmp_path / str(seed), seed) for seed in (1, 3)])
    early = outcomes[1]._replace(learning=outcomes[1].learning[:, :2])
    steps, returns = learning_curve(Setting("reptile/navigation", [outcomes[0], early]))
    assert steps.tolist() == [2e6, 4e6]
    assert returns.tolist() == [[8.0, 9.0], [28.0, 29.0]]


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


def test_no_two_settings_have_one_name(tmp_path: Path) -> None:
    """A whole number is no decimal one, and what an older run did not know is not None."""
    runs = [
        write_run(tmp_path / "a", 1, inner_lr=1),
        write_run(tmp_path / "b", 1, inner_lr=1.0),
        write_run(tmp_path / "c", 1, inner_lr=1, later=None),
    ]
    settings = settings_of(runs)
    assert sorted(labels(settings)) == [
        "reptile/navigation (inner_lr 1, later None)",
        "reptile/navigation (inner_lr 1, later unset)",
        "reptile/navigation (inner_lr 1.0, later unset)",
    ]
    assert len(compared(settings, after=None).settings) == 3


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
        ({}, "a.jpeg", "--out must end in .pdf or .png or .svg, got"),
        ({}, "a.png --what learning,profiles", "no 'profiles'; did you mean 'profile'?"),
        ({}, "a.png --after 2", "--after 2: reptile/navigation was evaluated after 0 to 1"),
        ({}, "a.png --after -1", "after must be a whole number from 0"),
        ({}, "a.png --names Reptile", "--names must be LABEL=NAME, got 'Reptile'"),
        ({}, "a.png --names reptile=R", "no 'reptile'; did you mean 'reptile/navigation'?"),
        ({}, "a.png --names reptile/navigation=random", "--names must differ, got random, random"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    out: str,
    said: str,
) -> None:
    runs = [write_run(tmp_path / "a", 1), write_run(tmp_path / "b", 2, **changes)]
    file, *flags = out.split()
    assert main(["plot", *map(str, runs), "--out", str(tmp_path / file), *flags]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / file).exists()


def settings_of(runs: Sequence[Path]) -> Sequence[Setting]:
    ((*settings,),) = by_environment(read_outcomes(runs)[0]).values()
    return settings


def line_of(axes: Axes, colour: str) -> Line2D:
    (line,) = (line for line in axes.lines if line.get_color() == colour)
    return line


def test_panels_show_what_they_say(tmp_path: Path) -> None:
    """Two seeds of one setting, and one of a worse one, beside a floor."""
    runs = [write_run(tmp_path / str(seed), seed) for seed in (2, 3)]
    runs.append(write_run(tmp_path / "maml", 1, preset="maml"))
    comparison = compared(settings_of(runs), after=1)
    figure = comparison_figure("title", comparison, [*PANELS])
    learning, adaptation, profile = figure.axes
    assert line_of(learning, BLUE).get_xdata() == pytest.approx([2.5, 5.0, 7.5])
    assert line_of(learning, BLUE).get_ydata() == pytest.approx([23.0, 24.0, 25.0])
    (band,) = learning.collections  # of the setting with two seeds
    assert band.get_datalim(learning.transData).intervaly == pytest.approx([18.0, 30.0])
    assert line_of(adaptation, BLUE).get_ydata() == pytest.approx([0.5, 3.0])  # IQM of 2, 3, 3, 4
    assert line_of(adaptation, RED).get_ydata() == pytest.approx([0.5, 1.5])
    assert line_of(adaptation, GREY).get_ydata() == pytest.approx([-9.0, -9.0])
    thresholds, shares = line_of(profile, BLUE).get_data()
    scores = np.array([2.0, 3.0, 3.0, 4.0])
    assert shares == pytest.approx([(scores > limit).mean() for limit in np.asarray(thresholds)])
    assert "after 1 adaptation" in profile.get_xlabel()
    (legend,) = figure.legends
    names = ["reptile/navigation", "maml", "random"]
    assert [text.get_text() for text in legend.get_texts()] == names
    assert "over seeds, or over tasks where there is one seed" in legend.get_title().get_text()


def test_floors_are_in_the_legend_only_where_they_are_drawn(tmp_path: Path) -> None:
    comparison = compared(settings_of([write_run(tmp_path / "a", 1)]), after=None)
    figure = comparison_figure("title", renamed(comparison, ["reptile/navigation=R"]), ["profile"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["R"]


def test_names_are_no_formulas(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", 1, preset=r"a$\frac$b")
    assert main(["plot", str(run), "--out", str(tmp_path / "a.svg")]) == 0


@pytest.mark.parametrize("kind", ["pdf", "svg", "png"])
def test_files_for_papers(tmp_path: Path, kind: str) -> None:
    """Letters of a PDF are TrueType and no pictures; the same runs make the same bytes."""
    runs = [str(write_run(tmp_path / str(seed), seed)) for seed in (1, 2)]
    for name in ("a", "b"):
        out = str(tmp_path / f"{name}.{kind}")
        assert main(["plot", *runs, "--out", out, "--what", "profile"]) == 0
    content = (tmp_path / f"a.{kind}").read_bytes()
    assert content == (tmp_path / f"b.{kind}").read_bytes()
    if kind == "pdf":
        assert content.startswith(b"%PDF")
        assert b"/FontFile2" in content
        assert b"/Type3" not in content
        assert b"/Subtype /Image" not in content
