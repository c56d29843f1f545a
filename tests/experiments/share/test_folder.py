"""What an export may hold, and what its manifest catches."""

import contextlib
import json
import os
from pathlib import Path

import pytest

from metarl.checks import InputError
from metarl.experiments.share.folder import check_export, foreign_names, replacing
from metarl.files import BrokenFileError

FOREIGN = (
    "../config.yaml",
    "/etc/passwd",
    "eval/../../a.json",
    "eval/../a.json",
    "eval//a.json",
    "eval/.hidden.json",
    "eval\\a.json",
    "eval/a.json\n",
    "EVAL/a.json",
    "eval/a.html",
    "videos/a.svg",
    "videos/deep/a.mp4",
    "model.pkl",
    "model.pt",
    "weights.zip",
    "setup.py",
    "tensors.safetensors",
    "checkpoints/000100/tensors.pt",
    "checkpoints/latest/state.json",
    "config.yaml.py",
    ".git/config",
    "",
)
KNOWN = (
    "README.md",
    "config.yaml",
    "DONE",
    "checkpoints/000100/tensors.safetensors",
    "checkpoints/1234567/manifest.json",
    "eval/000100_tasks40_adaptations3_meta-world.csv",
    "videos/before_after.mp4",
    "videos/a.gif",
)


def test_names_are_told_apart() -> None:
    assert foreign_names([*FOREIGN, *KNOWN]) == sorted(FOREIGN)


def test_any_changed_byte_is_found(export: Path) -> None:
    check_export(export, card_too=True)
    names = [path for path in export.rglob("*") if path.is_file()]
    assert len(names) == 13
    for file in names:
        data = file.read_bytes()
        middle = len(data) // 2
        file.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        with pytest.raises(BrokenFileError):
            check_export(export, card_too=True)
        if file.name == "README.md":
            check_export(export)
        file.write_bytes(data)
    check_export(export)


def test_what_is_missing_or_foreign_is_named(export: Path) -> None:
    (export / "DONE").unlink()
    (export / "model.pkl").write_text("a pickle")
    (export / "eval" / "more.json").symlink_to("/etc/passwd")
    with pytest.raises(BrokenFileError) as caught:
        check_export(export)
    lines = str(caught.value).splitlines()
    assert [line.rpartition("/")[2].split(":")[0] for line in lines] == [
        "DONE",
        "more.json",
        "model.pkl",
    ]


def test_a_link_is_no_file(export: Path) -> None:
    """Even to the very same content, and of the same length: it may lead elsewhere tomorrow."""
    file = export / "DONE"
    elsewhere = "../".ljust(file.stat().st_size, "x")
    file.rename(export / elsewhere)
    file.symlink_to(elsewhere)
    assert file.lstat().st_size == file.stat().st_size
    with pytest.raises(BrokenFileError, match="DONE: changed"):
        check_export(export)


def test_a_card_that_leads_elsewhere_is_no_card(export: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    (export / "README.md").unlink()
    (export / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(BrokenFileError, match=r"README\.md: changed"):
        check_export(export)


@pytest.mark.parametrize("name", [".", "..", "a/.."])
def test_a_folder_that_cannot_be_replaced_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is no name for a folder"), replacing(Path(name)):
        raise AssertionError
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"schema": 2, "files": {}}, "schema version 2"),
        ({"schema": 1, "files": {"../x.json": {"bytes": 1, "sha256": ""}}}, "is no part of an"),
        ({"schema": 1, "files": {"DONE": 3}}, "does not hold"),
        ([], "does not hold"),
        ({"schema": 1, "files": {}}, "foreign, the manifest has no such file"),
    ],
)
def test_a_broken_manifest_is_refused(export: Path, manifest: object, said: str) -> None:
    (export / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BrokenFileError, match=said):
        check_export(export)


def test_what_fails_on_the_way_leaves_everything_as_it_was(export: Path) -> None:
    before = sorted(export.parent.rglob("*"))
    with contextlib.suppress(RuntimeError), replacing(export) as new:
        (new / "half").write_text("")
        raise RuntimeError
    assert sorted(export.parent.rglob("*")) == before
    check_export(export, card_too=True)


def test_only_an_untouched_export_of_the_same_run_gives_way(
    exported: Path, export: Path, tmp_path: Path
) -> None:
    def put(out: Path) -> None:
        with replacing(out) as new:
            config = (
                (exported / "config.yaml").read_text().replace("iterations: 100", "iterations: 9")
            )
            (new / "config.yaml").write_text(config)

    free = tmp_path / "deep" / "free"
    put(free)
    assert os.listdir(free) == ["config.yaml"]
    with pytest.raises(InputError, match="is there already, and is no export"):
        put(free)
    file = tmp_path / "file"
    file.write_text("a text")
    with pytest.raises(InputError, match="is there already, and is no export"):
        put(file)
    card = (export / "README.md").read_text()
    (export / "README.md").write_text(card + "My own words.\n")
    with pytest.raises(InputError, match=r"README\.md: changed since"):
        put(export)
    (export / "README.md").write_text(card)
    with (
        pytest.raises(InputError, match="seed: the run has 1, asked for 2"),
        replacing(export) as new,
    ):
        (new / "config.yaml").write_text(
            (export / "config.yaml").read_text().replace("seed: 1", "seed: 2")
        )
    check_export(export, card_too=True)
    put(export)
    assert os.listdir(export) == ["config.yaml"]
    assert not list(tmp_path.glob(".*.part"))
