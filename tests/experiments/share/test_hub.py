"""Pushing to the hub and pulling from it, by a stand-in; and what strangers may put there."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metarl.experiments.cli import main
from metarl.experiments.share.folder import check_export
from tests.experiments.share.conftest import RUN
from tests.experiments.share.hub_stand_in import TOKEN, HubStandIn, Repo, sha_of

NAME = "user/navigation"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with HubStandIn() as stand_in:
        monkeypatch.setenv("HF_ENDPOINT", stand_in.endpoint)
        yield stand_in


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def filled(hub: HubStandIn, exported: Path, **more: bytes) -> Repo:
    """Put an export into a repository, with more files or others in place of them."""
    hub.repos[NAME] = Repo(False, contents(exported) | more)
    return hub.repos[NAME]


def pulled(out: Path, *flags: str) -> int:
    return main(["pull", NAME, "--out", str(out), *flags])


def test_what_is_pulled_is_what_was_pushed(
    hub: HubStandIn, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(exported), NAME, "--private"]) == 0
    assert f"{hub.endpoint}/{NAME}" in capsys.readouterr().out
    repo = hub.repos[NAME]
    assert repo.private
    assert {**repo.files} == contents(exported) | {".gitattributes": repo.files[".gitattributes"]}
    out = tmp_path / "deep" / "pulled"
    assert pulled(out) == 0
    assert contents(out) == contents(exported)
    check_export(out, card_too=True)
    assert [path.name for path in out.parent.iterdir()] == ["pulled"]
    assert TOKEN not in "".join(capsys.readouterr())
    assert all(TOKEN.encode() not in data for data in contents(out).values())


def test_large_files_go_the_way_of_large_files(exported: Path, tmp_path: Path) -> None:
    """In a process of its own, whose hub library is told to do without Xet, as servers of LFS."""
    code = "import sys; from metarl.experiments.cli import main; sys.exit(main(sys.argv[1:]))"
    with HubStandIn(lfs=True) as hub:
        env = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
        env = os.environ | env | {"HF_HOME": str(tmp_path)}
        push = [sys.executable, "-c", code, "push", str(exported), NAME]
        subprocess.run(push, env=env, check=True, timeout=120)
        assert len(hub.blobs) == 3
        assert contents(exported).items() <= hub.repos[NAME].files.items()


def test_a_run_is_exported_on_the_way(hub: HubStandIn, exported: Path) -> None:
    assert main(["push", str(RUN), NAME, "--license", "mit"]) == 0
    assert contents(exported).items() <= hub.repos[NAME].files.items()
    assert main(["push", str(exported), NAME, "--license", "mit"]) == 2


def test_a_push_replaces_the_earlier_one_and_an_old_revision_can_be_pulled(
    hub: HubStandIn, exported: Path, tmp_path: Path
) -> None:
    repo = filled(hub, exported)
    repo.files["eval/000050_tasks40_adaptations3.json"] = b"{}"
    first, out = sha_of(repo.files), tmp_path / "out"
    assert pulled(out) == 2  # a file of which the manifest does not know
    assert main(["push", str(exported), NAME]) == 0
    assert {*repo.files} - {".gitattributes"} == {*contents(exported)}
    assert pulled(out) == 0
    assert pulled(tmp_path / "old", "--revision", first) == 2
    newest = sha_of(repo.files)
    repo.commits.append({"README.md": b"all gone"})
    assert pulled(tmp_path / "gone") == 2
    assert pulled(tmp_path / "new", "--revision", newest) == 0


def test_of_two_pushes_at_once_one_fails(
    hub: HubStandIn, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise the repository would hold files of both."""
    repo = filled(hub, exported)
    repo.meanwhile = {"eval/another.json": b"{}"}
    assert main(["push", str(exported), NAME]) == 74
    (line,) = capsys.readouterr().err.splitlines()
    assert "412" in line
    assert len(repo.commits) == 2


def test_a_card_may_be_edited_there_and_here(
    hub: HubStandIn, exported: Path, export: Path, tmp_path: Path
) -> None:
    card = (export / "README.md").read_text() + "\nWords of mine.\n"
    (export / "README.md").write_text(card)
    assert main(["push", str(export), NAME]) == 0
    assert pulled(tmp_path / "out") == 0
    assert (tmp_path / "out" / "README.md").read_text() == card
    (export / "DONE").write_text("{}")
    assert main(["push", str(export), NAME]) == 2


def test_other_peoples_repositories_are_left_alone(
    hub: HubStandIn, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = hub.repos[NAME] = Repo(False, {"model.bin": b"another model"})
    assert main(["push", str(exported), NAME]) == 2
    assert "'model.bin' is no part of an export" in capsys.readouterr().err
    hub.repos[NAME] = Repo(False)
    assert main(["push", str(exported), NAME, "--private"]) == 2
    assert "is there already, and public" in capsys.readouterr().err
    assert len(repo.commits) == len(hub.repos[NAME].commits) == 1


@pytest.mark.parametrize(
    "name",
    [
        *("model.pt", "model.pkl", "weights.zip", "agent.py", "checkpoints/000100/more.bin"),
        *("../stolen.json", "eval/../../stolen.json", "/etc/cron.json", ".cache/x.json"),
    ],
)
def test_what_may_hold_code_or_leads_elsewhere_is_refused_by_name(
    hub: HubStandIn, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    filled(hub, exported).files[name] = b"{}"
    assert pulled(tmp_path / "a" / "out") == 2
    assert f"{NAME}: {name!r} is no part of an export" in capsys.readouterr().err
    assert hub.fetched() == []
    assert not (tmp_path / "a").exists()


def test_sizes_are_looked_at_before_anything_is_fetched(
    hub: HubStandIn, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = filled(hub, exported)
    repo.claimed["metrics.jsonl"] = 10**12
    assert pulled(tmp_path / "out") == 2
    assert "allowed are 500000000" in capsys.readouterr().err
    repo.claimed["metrics.jsonl"] = 2_000_000
    assert pulled(tmp_path / "out", "--max-megabytes", "2") == 2
    assert pulled(tmp_path / "out", "--max-megabytes", "0") == 2
    for number in range(1000):
        repo.files[f"eval/{number}.csv"] = b""
    assert pulled(tmp_path / "out") == 2
    assert "more than 1000 files" in capsys.readouterr().err
    assert hub.fetched() == []


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "config.yaml", "checkpoints/000100/tensors.safetensors"]
)
def test_nothing_is_put_in_place_when_a_byte_differs(
    hub: HubStandIn, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    repo, out = filled(hub, exported), tmp_path / "out"
    assert pulled(out) == 0
    before = contents(out)
    data = repo.files[name]
    repo.files[name] = data[:-1] + bytes([data[-1] ^ 1])
    capsys.readouterr()
    assert pulled(out) == 2
    assert capsys.readouterr().err.endswith(
        f"metarl: {NAME}/{name}: changed since it was exported\n"
    )
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_only_an_export_of_the_same_run_is_replaced(
    hub: HubStandIn, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(hub, exported)
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    assert pulled(out) == 2
    assert "is there already, and is no export" in capsys.readouterr().err
    assert hub.fetched() == []
    assert (out / "thesis.tex").read_text() == "mine"


def test_tokens_come_from_a_file_or_the_environment_and_are_never_shown(
    hub: HubStandIn,
    exported: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("HF_TOKEN", "hf_stale")
    assert main(["push", str(exported), NAME]) == 2
    said = "".join(capsys.readouterr())
    assert "Unauthorized" in said
    assert "no rights with Bearer <token>" in said
    assert "hf_stale" not in said
    assert main(["push", str(exported), NAME, "--token-file", str(file)]) == 0
    assert {asked.authorization for asked in hub.asked} == {"Bearer hf_stale", f"Bearer {TOKEN}"}
    file.write_text("hf_one\nhf_two\n")
    assert main(["push", str(exported), NAME, "--token-file", str(file)]) == 2
    assert "hf_" not in capsys.readouterr().err
    assert main(["push", str(exported), NAME, "--token-file", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("name", ["user/no-such", "a/b/c", "../b", "user/bad--name"])
def test_repositories_that_are_not_there(
    hub: HubStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["pull", name, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert not (tmp_path / "out").exists()


def test_a_hub_that_is_away_is_told_in_one_line(
    exported: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for arguments in (
        ["pull", NAME, "--out", str(tmp_path / "out")],
        ["push", str(exported), NAME],
    ):
        assert main(arguments) == 74
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"metarl: {NAME}: ConnectError")
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["pull", "a/b", "--out", "nowhere"]) == 2
    assert "pip install 'metarl-suite[hub]'" in capsys.readouterr().err
