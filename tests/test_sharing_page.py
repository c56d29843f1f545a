"""The commands on the page about sharing run as they stand there, by a stand-in for the hub."""

import contextlib
import json
import re
import shlex
from pathlib import Path

import pytest

from metarl.experiments.cli import main
from tests.experiments.share.hub_stand_in import TOKEN, HubStandIn

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "sharing.md").read_text()


def test_the_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").symlink_to(ROOT / "results")
    commands = [shlex.split(line)[1:] for line in re.findall(r"^metarl .*$", PAGE, re.MULTILINE)]
    assert [command[0] for command in commands] == [
        *("export", "evaluate", "adapt"),
        *("push", "pull", "evaluate"),
    ]
    with HubStandIn() as hub, contextlib.chdir(tmp_path):
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        said = []
        for command in commands:
            assert main(command) == 0, command
            said.append(capsys.readouterr().out)
        here, there = (json.loads(said[place]) for place in (1, 5))
        assert here == there
        assert here["iteration"] == 100
    named = re.findall(
        r"`([\w.]+/?)(?:<iteration>/)?`", PAGE[PAGE.index("| file") :].split("\n\n")[0]
    )
    told = {path.name + "/" * path.is_dir() for path in (tmp_path / "navigation").iterdir()}
    assert {*named} - {"library_name", "model-index"} == told | {"videos/"}
