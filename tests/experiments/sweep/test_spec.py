"""Specs: what is refused, where it stands, and what is made of the rest."""

from pathlib import Path
from typing import Any

import pytest

from metarl.checks import InputError
from metarl.experiments.experiment import to_dict
from metarl.experiments.presets import preset
from metarl.experiments.sweep.spec import Range, SweepSpec, Value, configured, read_spec

GOOD = """\
presets: [maml-trpo/bandit, promp/navigation]
seeds: [1, 2]
set:
  iterations: 10
grid:
  agent.inner_lr: [0.1, 1e-3]
"""
EXAMPLES = Path(__file__).parents[3] / "experiments" / "sweeps"


def read(folder: Path, text: str) -> SweepSpec:
    file = folder / "some.yaml"
    file.write_text(text)
    return read_spec(file)


def test_a_spec_is_read_as_it_is_written(tmp_path: Path) -> None:
    spec = read(tmp_path, GOOD + "search:\n  agent.discount: {low: 0.5, high: 1, log: true}\n")
    assert spec == SweepSpec(
        name="some",
        presets=("maml-trpo/bandit", "promp/navigation"),
        seeds=(1, 2),
        set={"iterations": 10},
        grid={"agent.inner_lr": (0.1, 0.001)},
        search={"agent.discount": Range(low=0.5, high=1, log=True)},
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("seeds", "sedes", 2, "sedes: no 'sedes'; did you mean 'seeds'?"),
        ("promp/navigation", "promp/navigatoin", 1, "did you mean 'promp/navigation'?"),
        ("iterations:", "iteratoins:", 4, "did you mean 'iterations'?"),
        ("agent.inner_lr:", "agent.inner_rl:", 6, "did you mean 'inner_lr'?"),
        ("agent.inner_lr:", "agnet.inner_lr:", 6, "did you mean 'agent'?"),
        ("agent.inner_lr:", "iterations.inner_lr:", 6, "is a value and holds no fields"),
        ("[0.1, 1e-3]", "[]", 6, "grid.agent.inner_lr must hold at least one value"),
        ("[0.1, 1e-3]", "0.1", 6, "grid.agent.inner_lr must be a list of values to try"),
        ("[0.1, 1e-3]", "[0.1, -1]", 6, "inner_lr must be a finite number >= 0, got -1"),
        ("[0.1, 1e-3]", "[0.1, .nan]", 6, "inner_lr must be a finite number >= 0, got nan"),
        ("[0.1, 1e-3]", "[0.1, many]", 6, "agent.inner_lr must be float, got 'many'"),
        ("[0.1, 1e-3]", "[{a: 1}]", 6, "grid.agent.inner_lr must be a value"),
        ("[1, 2]", "[]", 2, "seeds must hold at least one seed"),
        ("[1, 2]", "[1, -2]", 2, "seeds must each be a whole number"),
        ("[1, 2]", "[one]", 2, "seeds must be"),
        ("[1, 2]", "1", 2, "seeds must be a list of whole numbers, such as [1, 2, 3]; got 1"),
        ("set:\n  iterations: 10", "set:", 3, "set must be fields with a value each; got None"),
        ("iterations: 10", "seed: 10", 4, "set.seed has no place here: it is said in seeds"),
        ("iterations: 10", "agent.name: promp", 4, "it is said in presets"),
        ("iterations: 10", "threads: 2", 4, "it is said in the flag --threads"),
        ("iterations: 10", "agent: {inner_lr: 1}", 4, "set.agent.field"),
        ("iterations: 10", "agent.inner_lr: 1", 6, "stands in set too"),
        ("[1, 2]", f"{[*range(9000)]}", 5, "at most 10000 runs, got 36000"),
        ("set:", "name: ../up\nset:", 3, "name must match"),
    ],
)
def test_faults_have_a_line_and_the_nearest_name(
    tmp_path: Path, old: str, new: str, line: int, said: str
) -> None:
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        read(tmp_path, GOOD.replace(old, new))
    place = f"{tmp_path / 'some.yaml'}, line {line}: "
    assert any(text.startswith(place) and said in text for text in caught.value.lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("presets: !!python/object/apply:os.system [ls]", "line 1: tags, aliases"),
        ("seeds: &a [1]\npresets: *a", "line 2: tags, aliases"),
        ("seeds: " + "[" * 60, "tags, aliases and deep nesting"),
        ("seeds: [1]\nseeds: [2]", "line 2: 'seeds' stands here a second time"),
        ("? [1]\n: 2", "a key must be a word"),
        ("- 1", "must hold a mapping"),
        ("", "must hold a mapping"),
        ("seeds: [1", "some.yaml"),
        ("seeds: " + "1" * 5000, "some.yaml"),
        ("#" + "x" * 10_000_000, "too long"),
    ],
)
def test_files_that_are_not_plain_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    (line,) = caught.value.lines
    assert said in line
    assert "some.yaml" in line


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.yaml: missing"):
        read_spec(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{low: 1, high: 0.1}", "must have low below high"),
        ("{low: 0, high: 0.1, log: true}", "must have low above 0 with log"),
        ("{low: 0.5, high: 2, integer: true}", "must have whole ends"),
        ("{low: 0.1}", "must hold choices, or two numbers"),
        ("{low: 0.1, high: .inf}", "must hold choices, or two numbers"),
        ("{choices: [0.1], low: 1}", "must hold choices and nothing else"),
        ("{choices: []}", "must hold choices"),
        ("{lo: 0.1, high: 1}", "did you mean 'low'?"),
        ("{low: -1, high: 1}", "inner_lr must be a finite number >= 0, got -1"),
        ("[0.1, 1]", "must be {low, high} or {choices}"),
    ],
)
def test_ranges_are_checked_at_both_ends(tmp_path: Path, text: str, said: str) -> None:
    head = "presets: [promp/navigation]\nseeds: [1]\n"
    with pytest.raises(InputError) as caught:
        read(tmp_path, f"{head}search:\n  agent.inner_lr: {text}\n")
    lines = caught.value.lines
    assert any("line 4: search.agent.inner_lr" in line and said in line for line in lines)


def test_a_preset_is_configured_in_the_fields_named_and_in_no_other() -> None:
    values: dict[str, Value] = {
        "agent.inner_lr": 1,
        "agent.policy.hidden_sizes": (3, 4),
        "env.horizon": 7,
    }
    changed: dict[str, Any] = to_dict(configured("promp/navigation", 5, values))
    expected: dict[str, Any] = to_dict(preset("promp/navigation")) | {"seed": 5}
    expected["agent"] |= {"inner_lr": 1.0}
    expected["agent"]["policy"] |= {"hidden_sizes": [3, 4]}
    expected["env"] |= {"horizon": 7}
    assert changed == expected
    # A whole number is the same setting as the fraction it stands for, and has the same id.
    assert isinstance(changed["agent"]["inner_lr"], float)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_examples_are_short_and_good(file: Path) -> None:
    spec = read_spec(file)
    assert spec.name == file.stem
    written = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert len(written) <= 10
