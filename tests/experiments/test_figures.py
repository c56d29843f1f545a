"""Figures: written, of a sane size, and refused by name where there is nothing to draw."""

from pathlib import Path

import numpy as np
import pytest
import torch

from metarl.experiments.evaluation.figure import by_rounds, curves_figure
from metarl.experiments.evaluation.scoring import Curve
from metarl.experiments.figures import adaptation_figure, learning_figure
from metarl.statistics import CurveSummary, summarise_curve


def curve(rounds: int, seed: int) -> CurveSummary:
    rng = np.random.default_rng(seed)
    gain = 100.0 * np.sqrt(np.arange(rounds))
    return summarise_curve(gain + rng.normal(0, 30, size=(2, 8, rounds)), rng)


def assert_is_png(path: Path) -> None:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert 5_000 < len(content) < 200_000
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (960, 630)


@pytest.mark.parametrize("rounds", [1, 2, 11, 40])
def test_adaptation_figure(tmp_path: Path, rounds: int) -> None:
    names = ("MAML", "random policy", "untrained, adapted", "told the task", "another")
    curves = {name: curve(rounds, seed) for seed, name in enumerate(names)}
    path = tmp_path / "eval" / "adaptation.png"
    adaptation_figure(path, "HalfCheetahDir, 8 tasks", curves, "return")
    assert_is_png(path)


@pytest.mark.parametrize("points", [1, 2, 1500])
def test_learning_figure(tmp_path: Path, points: int) -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, points)).cumsum(axis=1)
    after[points // 2] = np.nan
    iterations = list(range(points))
    steps = [4000 * (iteration + 1) for iteration in iterations]
    path = tmp_path / "learning.png"
    series = {"before adaptation": before.tolist(), "after adaptation": after.tolist()}
    learning_figure(path, "HalfCheetahDir", iterations, steps, series)
    assert_is_png(path)


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no curve"):
        adaptation_figure(tmp_path / "a.png", "title", {}, "return")
    with pytest.raises(ValueError, match="after has 1 points, env_steps has 2"):
        learning_figure(tmp_path / "l.png", "title", [0, 1], [10, 20], {"after": [1.0]})
    with pytest.raises(ValueError, match="iterations has 0 points"):
        learning_figure(tmp_path / "l.png", "title", [], [], {})
    assert list(tmp_path.iterdir()) == []


def test_names_are_neither_formulas_nor_sure_to_be_letters(tmp_path: Path) -> None:
    name = r"a$\frac$b" + "\udcff"
    adaptation_figure(tmp_path / "a.png", name, {name: curve(2, 0)}, name)
    learning_figure(tmp_path / "l.png", name, [0], [10], {name: [1.0]})
    lines = by_rounds({name: Curve(torch.zeros(1, 2), curve(2, 0), (0, 1))})
    curves_figure(tmp_path / "c.png", name, {name: lines}, name)
    assert len(list(tmp_path.iterdir())) == 3
