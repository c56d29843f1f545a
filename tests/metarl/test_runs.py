import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.checkpoint import StorageError
from metarl.files import BrokenFileError
from metarl.locks import RunLockedError
from metarl.runs import (
    Config,
    RunConflictError,
    RunFolder,
    config_id,
    default_run_folder,
    differences,
    read_config,
    system_facts,
)

CONFIG: Config = {
    "agent": {"name": "maml", "inner_lr": 0.1, "hidden": [64, 64]},
    "iterations": 100,
    "seed": 1,
}
FREE = ("iterations",)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
finite = scalars.filter(lambda value: value not in (float("inf"), -float("inf")))
configs = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        finite,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=6,
    ),
    max_size=4,
)


def test_a_new_folder_gets_config_and_facts(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "maml" / "run"
    with RunFolder.open(path, CONFIG, FREE) as run:
        assert run.path == path
        assert read_config(path) == CONFIG
        (sitting,) = json.loads((path / "system.json").read_bytes())["sittings"]
        assert sitting["command"] == sys.argv
        places = (run.metrics, run.tensorboard, run.checkpoints, run.best, run.evaluations)
        names = ["metrics.jsonl", "tb", "checkpoints", "best", "eval"]
        assert [place.relative_to(path).as_posix() for place in places] == names
        assert not run.done
        run.mark_done({"iterations": 100})
        assert run.done
    assert sorted(os.listdir(path)) == ["DONE", "config.yaml", "lock", "system.json"]
    run.close()


def test_going_on_with_a_run(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, CONFIG, FREE) as run:
        run.mark_done({})
    with RunFolder.open(tmp_path, CONFIG, FREE) as run:
        assert run.done
    more = {**CONFIG, "iterations": 200}
    with RunFolder.open(tmp_path, more, FREE) as run:
        assert not run.done
    assert read_config(tmp_path) == more
    assert len(json.loads((tmp_path / "system.json").read_bytes())["sittings"]) == 3


def test_another_configuration_is_a_conflict_and_changes_nothing(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, CONFIG, FREE).close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    asked: Config = {"agent": {"name": "maml", "inner_lr": 0.2, "first_order": True}, "seed": 1}
    with pytest.raises(RunConflictError) as caught:
        RunFolder.open(tmp_path, asked, FREE)
    assert str(caught.value).splitlines()[1:] == [
        "agent.first_order: the run has nothing, asked for True",
        "agent.hidden: the run has [64, 64], asked for nothing",
        "agent.inner_lr: the run has 0.1, asked for 0.2",
    ]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    RunFolder.open(tmp_path, CONFIG, FREE).close()


@pytest.mark.parametrize("name", ["thesis.tex", "config.yaml"])
def test_a_foreign_folder_is_never_written_into(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine: 1\n")
    with pytest.raises(RunConflictError, match=str(tmp_path)):
        RunFolder.open(tmp_path, CONFIG, FREE)
    assert os.listdir(tmp_path) == [name]


def test_a_first_start_that_was_killed_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("")
    (tmp_path / ".config.yaml.77.part").write_text("agent: {na")
    RunFolder.open(tmp_path, CONFIG, FREE).close()
    (tmp_path / "system.json").unlink()
    RunFolder.open(tmp_path, CONFIG, FREE).close()
    assert (tmp_path / "system.json").exists()


def test_a_folder_below_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}/file/run"):
        RunFolder.open(tmp_path / "file" / "run", CONFIG, FREE)
    with pytest.raises(RunConflictError, match="file is a file, not a folder"):
        RunFolder.open(tmp_path / "file", CONFIG, FREE)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        RunFolder.open(tmp_path, {"seed": 1}, ()),
        pytest.raises(RunLockedError, match=f"{tmp_path} is in use by process {os.getpid()} "),
    ):
        RunFolder.open(tmp_path, {"seed": 1}, ())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sittings": {}}', '{"started": NaN}'])
def test_a_damaged_record_of_sittings_is_refused_by_name(tmp_path: Path, text: str) -> None:
    RunFolder.open(tmp_path, CONFIG, FREE).close()
    (tmp_path / "system.json").write_text(text)
    with pytest.raises(BrokenFileError, match=f"^{tmp_path}/system.json: "):
        RunFolder.open(tmp_path, CONFIG, FREE)
    assert (tmp_path / "system.json").read_text() == text
    (tmp_path / "system.json").unlink()
    RunFolder.open(tmp_path, CONFIG, FREE).close()


def test_a_run_that_was_killed_on_another_host_goes_on(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, CONFIG, FREE).close()
    assert (tmp_path / "lock").read_text() == ""
    text = json.dumps({"pid": 42, "host": "elsewhere.invalid", "since": "yesterday"})
    (tmp_path / "lock").write_text(text)
    with RunFolder.open(tmp_path, CONFIG, FREE):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_identity_ignores_order_and_free_keys() -> None:
    name = config_id(CONFIG, FREE)
    assert name == "9b25ebaa"
    shuffled = {key: CONFIG[key] for key in reversed(CONFIG)}
    assert config_id({**shuffled, "iterations": 7}, FREE) == name
    assert config_id({**CONFIG, "seed": 2}, FREE) != name
    assert config_id({**CONFIG, "agent": {"inner_lr": 0.1, "name": "maml"}}, FREE) != name
    with pytest.raises(ValueError, match="not JSON compliant"):
        config_id({"lr": float("nan")}, ())


def test_differences_by_leaf() -> None:
    old: Config = {"a": {"b": 1, "on": True, "empty": {}}, "free": 1, "pair": (1, 2)}
    assert differences(old, old, ()) == []
    assert differences(old, {**old, "free": 2, "pair": [1, 2]}, ("free",)) == []
    assert differences(old, {"a": {"b": 1, "on": 1, "empty": {"c": "x"}}}, ("free",)) == [
        "a.empty: the run has {}, asked for nothing",
        "a.empty.c: the run has nothing, asked for 'x'",
        "a.on: the run has True, asked for 1",
        "pair: the run has [1, 2], asked for nothing",
    ]


def test_default_folder() -> None:
    root = Path("runs")
    path = default_run_folder(root, "maml-trpo/half-cheetah-dir@maml-2017", 1, "ab12cd34")
    carried = default_run_folder(root, "rl2/bandit+AntGoal-v0@maml-2017", 1, "ab12cd34")
    assert carried == root / "rl2" / "bandit.AntGoal-v0.maml-2017__s1__ab12cd34"
    assert path == root / "maml-trpo" / "half-cheetah-dir.maml-2017__s1__ab12cd34"


@pytest.mark.parametrize(
    "preset",
    [
        "../x",
        "./x",
        "/x",
        "maml",
        "a/b/c",
        "a/../../etc",
        "a/x y",
        "a/<b>",
        "a/b\n",
        "a/" + "x" * 97,
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, preset: str) -> None:
    with pytest.raises(ValueError, match=r"run name|need a preset"):
        default_run_folder(tmp_path, preset, 1, "ab12cd34")


def test_identity_seed_and_links_cannot_lead_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run name"):
        default_run_folder(tmp_path, "maml/x", 1, "../../y")
    with pytest.raises(ValueError, match="seed >= 0"):
        default_run_folder(tmp_path, "maml/x", -1, "ab12cd34")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "maml").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leads outside"):
        default_run_folder(tmp_path / "runs", "maml/x", 1, "ab12cd34")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: !!python/object/apply:os.system ['true']", "tags, aliases"),
        ("a: !mine 1", "tags, aliases"),
        ("a: !!timestamp x", "tags, aliases"),
        ("a: &a [x, x]\nb: [*a, *a]", "tags, aliases"),
        ("[1, 2]", "must be a mapping, got list"),
        ("", "must be a mapping, got NoneType"),
        ("1: 2", "every key must be a string"),
        ("a: .nan", "not JSON compliant"),
        ("a: 2020-01-01", "not JSON serializable"),
        ("a: [", "expected"),
        ("a: 1\n---\nb: 2", "single document"),
        ("a: " + "[" * 20_000, "deep nesting"),
        ("a: \x00", "config"),
        ("a: " + "x" * 1_000_000, "longer than 1000000 bytes"),
    ],
)
def test_a_config_that_is_not_plain_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=reason) as caught:
        read_config(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/config.yaml: ")
    assert "\n" not in str(caught.value)


def test_no_run_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RunConflictError, match=f"{path} is not a run folder.*checkpoints"):
            read_config(path)


@settings(max_examples=60, deadline=None)
@given(config=configs)
def test_any_config_survives_the_disk(
    tmp_path_factory: pytest.TempPathFactory, config: Config
) -> None:
    path = tmp_path_factory.mktemp("any")
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    assert differences(read_config(path), config, ()) == []
    assert config_id(read_config(path), ()) == config_id(config, ())
    shutil.rmtree(path)


def test_facts_are_json_and_name_the_versions() -> None:
    facts = json.loads(json.dumps(system_facts(), allow_nan=False))
    assert set(facts["versions"]) == {"torch", "numpy", "mujoco", "metarl-suite"}
    assert facts["git"] is None or set(facts["git"]) == {"commit", "dirty"}
    assert facts["torch_threads"] >= 1
    assert facts["started"].endswith("+00:00")
