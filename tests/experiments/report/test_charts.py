"""Charts of a report: what is drawn is what the runs reached."""

from pathlib import Path

import numpy as np
import plotly.graph_objects
import pytest

from metarl.experiments.outcomes import read_outcomes
from metarl.experiments.report.charts import (
    Chart,
    Json,
    adaptation_chart,
    learning_chart,
    literal,
    profile_chart,
    thinned,
)
from metarl.experiments.report.legend import (
    entries_of_references,
    entries_of_settings,
    references_of,
)
from metarl.experiments.settings import Setting, by_environment
from tests.experiments.report.written import FLOOR, write_run


def read(*folders: Path) -> list[Setting]:
    ((settings),) = by_environment(read_outcomes(folders)[0]).values()
    return list(settings)


def line(chart: Chart, key: str) -> Json:
    (trace,) = [t for t in chart.data if t["legendgroup"] == key and "hovertemplate" in t]
    return trace


def band(chart: Chart, key: str) -> list[Json]:
    return [t for t in chart.data if t["legendgroup"] == key and "hovertemplate" not in t]


@pytest.mark.parametrize(("columns", "most", "left"), [(7, 3, 3), (6, 3, 3), (5, 9, 5), (9, 2, 2)])
def test_thinned_is_the_mean_of_neighbours(columns: int, most: int, left: int) -> None:
    rows = np.random.default_rng(0).normal(size=(2, columns))
    size = -(-columns // most)
    means = [
        [np.mean(row[start : start + size]) for start in range(0, columns, size)] for row in rows
    ]
    assert thinned(rows, most).shape == (2, left)
    np.testing.assert_allclose(thinned(rows, most), means)


def test_learning_is_the_mean_of_two_seeds_between_them(tmp_path: Path) -> None:
    """Of two runs drawn with replacement, one in four times both are the worse one."""
    settings = read(*(write_run(tmp_path / str(seed), seed) for seed in (1, 3)))
    chart = learning_chart(entries_of_settings(["a"]), settings)
    drawn = line(chart, "setting-0")
    assert drawn["x"] == [1.0, 2.0, 3.0]
    assert drawn["y"] == [3.0, 4.0, 5.0]
    low, high = band(chart, "setting-0")
    assert (low["y"], high["y"]) == ([2.0, 3.0, 4.0], [4.0, 5.0, 6.0])
    assert drawn["customdata"] == [[2.0, 4.0], [3.0, 5.0], [4.0, 6.0]]
    assert {name: axis["x"]["setting-0"] for name, axis in chart.axes.items()} == {
        "env steps": [1.0, 2.0, 3.0],
        "wall time": [1.5, 3.0, 4.5],
        "meta-iterations": [1.0, 2.0, 3.0],
    }


def test_seeds_of_different_lengths_are_drawn_up_to_the_first_end(tmp_path: Path) -> None:
    ((short,), (long,)) = (
        setting.outcomes
        for seed, end in ((1, 2), (3, 4))
        for setting in read(write_run(tmp_path / str(seed), seed, iterations=end))
    )
    chart = learning_chart(entries_of_settings(["a"]), [Setting("a", [long, short])])
    assert line(chart, "setting-0")["y"] == [3.0, 4.0]
    assert chart.axes["meta-iterations"]["x"]["setting-0"] == [1.0, 2.0]


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    chart = learning_chart(entries_of_settings(["a"]), read(write_run(tmp_path / "a")))
    assert band(chart, "setting-0") == []
    assert line(chart, "setting-0")["customdata"] == []


def test_what_is_not_finite_leaves_a_gap(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    text = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(
        text.replace('"meta/post_return": 3.0', '"meta/post_return": null')
    )
    drawn = line(learning_chart(entries_of_settings(["a"]), read(folder)), "setting-0")
    assert drawn["y"] == [2.0, None, 4.0]


def test_adaptation_stands_beside_its_references(tmp_path: Path) -> None:
    """What is the same for all is one line, what is each setting's own is hidden at first."""
    own = {name: FLOOR | {"iqm": [-8.0, iqm]} for name, iqm in (("a", -3.0), ("b", -2.0))}
    runs = [
        write_run(
            tmp_path / name, preset=name, floors={"random": FLOOR, "fresh": own[name], "b": FLOOR}
        )
        for name in ("a", "b")
    ]
    settings = read(*runs)
    names = [setting.preset for setting in settings]
    references = references_of(names, settings)
    assert [(name, len(curves)) for name, curves in references] == [("random", 1), ("fresh", 2)]
    ours, theirs = entries_of_settings(names), entries_of_references(references)
    assert [entry.shown for entry in theirs] == [True, False]
    curve = settings[0].curve()
    drawn = [(ours[0], "first", curve)]
    drawn += [(theirs[1], name, floor) for name, floor in references[1].curves]
    chart = adaptation_chart(drawn, "return")
    np.testing.assert_allclose(line(chart, "setting-0")["y"], curve.iqm, rtol=1e-4)
    low, high = band(chart, "setting-0")
    np.testing.assert_allclose([low["y"], high["y"]], [curve.ci_low, curve.ci_high], rtol=1e-4)
    fresh = {
        t["name"]: t["y"]
        for t in chart.data
        if t["legendgroup"] == "reference-1" and "hovertemplate" in t
    }
    assert fresh == {"fresh: a": [-8.0, -3.0], "fresh: b": [-8.0, -2.0]}
    assert chart.data[-1] == line(chart, "setting-0"), "the first setting lies on top"


def test_a_profile_counts_what_scores_more_than_a_threshold() -> None:
    scores = np.random.default_rng(1).normal(size=(3, 5))
    chart = profile_chart(entries_of_settings(["a"]), [scores], "return")
    drawn, (low, high) = line(chart, "setting-0"), band(chart, "setting-0")
    counted = [np.mean([score > limit for score in scores.ravel()]) for limit in drawn["x"]]
    np.testing.assert_allclose(drawn["y"], counted, rtol=1e-4)
    assert drawn["y"][0] == 1.0
    assert drawn["y"][-1] == 0.0
    assert all(
        low <= y <= high for low, y, high in zip(low["y"], drawn["y"], high["y"], strict=True)
    )
    same = profile_chart(entries_of_settings(["a"]), [np.ones((1, 2))], "return")
    assert line(same, "setting-0")["y"][0] == 1.0


def test_the_first_24_settings_look_different_and_what_is_drawn_is_plotlys(tmp_path: Path) -> None:
    looks = [entry.look for entry in entries_of_settings([str(place) for place in range(24)])]
    assert len({*looks}) == 24
    settings = read(*(write_run(tmp_path / str(seed), seed) for seed in (1, 2)))
    legend = entries_of_settings(["a"])
    for chart in (
        learning_chart(legend, settings),
        adaptation_chart([(legend[0], "a", settings[0].curve())], "return"),
        profile_chart(legend, [settings[0].scores()[..., 1]], "return"),
    ):
        figure = plotly.graph_objects.Figure({"data": chart.data, "layout": chart.layout})
        assert len(figure.data) == 3


def test_text_is_shown_as_it_is() -> None:
    assert literal("<b>a</b> & 'b'") == "&lt;b&gt;a&lt;/b&gt; &amp; 'b'"
