"""An export: complete, usable as the run it came from, true to it, and without private paths."""

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from metarl.checkpoint import load_checkpoint
from metarl.experiments.cli import main
from metarl.experiments.figures import adaptation_figure
from metarl.experiments.outcomes import read_outcome
from metarl.experiments.settings import Setting
from metarl.experiments.share.folder import check_export
from tests.experiments.share.conftest import RUN

EVALUATION = "000100_tasks40_adaptations3"
RL2 = RUN.parent / "compare" / "bandit" / "rl2-s1"


def copy_of_run(folder: Path) -> Path:
    return Path(shutil.copytree(RUN, folder / "run"))


def best_of_run(run: Path) -> None:
    """Make the weights of meta-iteration 90 the best in validation."""
    shutil.copytree(run / "checkpoints" / "000090", run / "best" / "000090")


def test_it_holds_what_it_should_and_nothing_else(exported: Path) -> None:
    files = {
        path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()
    }
    weights = {"tensors.safetensors", "state.json", "manifest.json"}
    assert files == {
        *("README.md", "config.yaml", "system.json", "metrics.jsonl", "results.json"),
        *("manifest.json", "DONE", "eval/learning.png"),
        *(f"checkpoints/000100/{name}" for name in weights),
        *(f"eval/{EVALUATION}.{suffix}" for suffix in ("json", "png")),
    }
    check_export(exported, card_too=True)
    for name in ("learning.png", f"{EVALUATION}.png"):
        assert (exported / "eval" / name).read_bytes().startswith(b"\x89PNG")


def test_it_is_the_run(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = (load_checkpoint(folder / "checkpoints" / "000100") for folder in (exported, RUN))
    assert here.state == there.state
    for name, leaf in there.tensors.items():
        assert torch.equal(here.tensors[name], leaf), name
    assert np.array_equal(read_outcome(exported).per_task, read_outcome(RUN).per_task)
    said = []
    for folder in (exported, RUN):
        flags = ["--tasks", "2", "--adaptations", "1", "--threads", "1", "--json"]
        assert main(["evaluate", str(folder), *flags]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]


def test_its_agent_adapts(exported: Path, tmp_path: Path) -> None:
    flags = ["--task", '{"goal": [0.3, -0.2]}', "--out", str(tmp_path / "kept")]
    assert main(["adapt", str(exported), *flags, "--episodes", "2"]) == 0
    assert (tmp_path / "kept" / "policy.safetensors").exists()


def test_the_hub_reads_the_results(exported: Path) -> None:
    card = ModelCard.load(exported / "README.md")
    assert (card.data.library_name, card.data.license) == ("metarl", "mit")
    kinds = {"reinforcement-learning", "meta-reinforcement-learning"}
    assert {*card.data.tags} == {*kinds, "maml-trpo", "PointNavigation-v0"}
    scores = np.array(json.loads((RUN / "eval" / f"{EVALUATION}.json").read_text())["per_task"])
    results = card.data.eval_results
    told = {(each.metric_type, each.metric_args["adaptations"]): each for each in results}
    assert len(told) == len(results) == 8
    for place, column in enumerate(scores.T):
        mean, iqm = told["mean_return", place], told["iqm_return", place]
        assert mean.metric_value == pytest.approx(column.mean())
        assert iqm.metric_value == pytest.approx(np.sort(column)[10:30].mean())
        low, high = iqm.metric_args["interval_95"]
        assert low < iqm.metric_value < high
        assert iqm.dataset_type == "metarl/PointNavigation-v0"
    stored = json.loads((exported / "results.json").read_text())
    assert stored["mean"] == [told["mean_return", place].metric_value for place in range(4)]
    assert {*stored["references"]} == {"random policy", "untrained, adapted"}


def test_the_card_tells_how_to_train_it_and_by_which_code(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    assert "```\nmetarl train maml-trpo/navigation\n```" in card
    assert "- commit: `babc44e5`\n" in card
    (config,) = re.findall(r"```yaml\n(.*?)```", card, flags=re.DOTALL)
    assert yaml.safe_load(config) == yaml.safe_load((RUN / "config.yaml").read_text())
    for link in re.findall(r"\]\((.*?)\)", card):
        assert (exported / link).exists(), link


def run_code_of_card(run: Path, name: str, place: Path) -> dict[str, Any]:
    with contextlib.chdir(place):
        assert main(["export", str(run), "--out", name]) == 0
        card = Path(name, "README.md").read_text()
        (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
        names: dict[str, Any] = {}
        exec(compile(code, "README.md", "exec"), names)
    return names


def test_the_code_of_the_card_adapts(tmp_path: Path) -> None:
    names = run_code_of_card(RUN, "maml-trpo-navigation", tmp_path)
    assert names["after"] > names["before"] + 5.0
    assert (tmp_path / "adapted" / "policy.safetensors").exists()


def test_the_code_of_the_card_runs_for_an_agent_with_memory(tmp_path: Path) -> None:
    run = Path(shutil.copytree(RL2, tmp_path / "run"))
    (evaluation,) = (run / "eval").glob("*.json")
    content = json.loads(evaluation.read_text())
    content["per_task"] = content["per_task"][:40]
    evaluation.write_text(json.dumps(content))
    names = run_code_of_card(run, "rl2-bandit", tmp_path)
    assert len(names["scores"]) == 1
    assert names["scores"][0] > 6.0  # of 10; random choices earn 5
    assert_is_drawn_by_episode(tmp_path / "rl2-bandit", tmp_path / "again.png")


def assert_is_drawn_by_episode(export: Path, again: Path) -> None:
    outcome = read_outcome(export)
    curve = Setting(outcome.preset, [outcome]).curve()
    stem = f"{outcome.iteration:06d}_tasks40_adaptations0"
    adaptation_figure(
        again,
        f"{outcome.preset}, {outcome.iteration} meta-iterations, 40 held-out tasks",
        {outcome.preset: curve} | outcome.floors,
        outcome.score,
        "episodes of the trial before",
    )
    assert (export / "eval" / f"{stem}.png").read_bytes() == again.read_bytes()


def test_no_path_of_the_machine_gets_out(tmp_path: Path) -> None:
    run = copy_of_run(tmp_path)
    command = ["/home/alice/.venv/bin/metarl", "train", "maml-trpo/navigation", "--out"]
    command += ["/home/alice/secret-project", "--out=/home/alice/b", "--seed", "1", "/home/alice/x"]
    for file in (run / "system.json", run / "eval" / f"{EVALUATION}.json"):
        content = json.loads(file.read_text())
        told = content["sittings"][-1] if "sittings" in content else content["system"]
        told["command"] = command
        file.write_text(json.dumps(content))
    out = tmp_path / "out"
    assert main(["export", str(run), "--out", str(out)]) == 0
    for file in (path for path in out.rglob("*") if path.is_file()):
        assert b"alice" not in file.read_bytes(), file
        assert str(tmp_path).encode() not in file.read_bytes(), file
    assert (
        "```\nmetarl train maml-trpo/navigation --seed 1 x\n```" in (out / "README.md").read_text()
    )


def test_the_best_weights_come_with_their_own_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = copy_of_run(tmp_path), tmp_path / "out"
    best_of_run(run)
    assert main(["export", str(run), "--out", str(out), "--best"]) == 2
    assert f"metarl evaluate {run} --best makes one" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    content = json.loads((run / "eval" / f"{EVALUATION}.json").read_text())
    content["per_task"] = [[row[0] + 1000.0, *row[1:]] for row in content["per_task"]]
    mine = f"000090{EVALUATION[6:]}"
    (run / "eval" / f"{mine}.json").write_text(json.dumps(content))
    (run / "eval" / f"{mine}_shifted.csv").write_text("task,score\n")
    assert main(["export", str(run), "--out", str(out), "--best"]) == 0
    weights, same = (
        load_checkpoint(folder / "checkpoints" / "000090").tensors for folder in (out, run)
    )
    assert torch.equal(weights["log_std"], same["log_std"])
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["000090"]
    outcome = read_outcome(out)
    assert (outcome.iteration, json.loads((out / "DONE").read_text())["iteration"]) == (90, 90)
    assert outcome.per_task[:, 0].min() > 800.0
    assert (out / "eval" / f"{mine}_shifted.csv").exists()
    assert "the best ones in validation" in (out / "README.md").read_text()


def test_videos_come_along(tmp_path: Path) -> None:
    run, out = copy_of_run(tmp_path), tmp_path / "out"
    (run / "videos").mkdir()
    (run / "videos" / "before_after.mp4").write_bytes(b"a film")
    assert main(["export", str(run), "--out", str(out)]) == 0
    assert (out / "videos" / "before_after.mp4").read_bytes() == b"a film"
    assert "(videos/before_after.mp4)" in (out / "README.md").read_text()


def test_an_export_is_exported_again(exported: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert main(["export", str(exported), "--out", str(again), "--license", "mit"]) == 0
    for file in (path for path in exported.rglob("*") if path.is_file()):
        assert (again / file.relative_to(exported)).read_bytes() == file.read_bytes(), file
    assert main(["export", str(RUN), "--out", str(again)]) == 0
    assert "license" not in (again / "README.md").read_text().split("---")[1]


def test_names_of_others_stay_names(tmp_path: Path) -> None:
    run, out = copy_of_run(tmp_path), tmp_path / "out"
    evil = "a`<script>alert(1)</script>|[x](javascript:alert)\n```\n# b"
    config = yaml.safe_load((run / "config.yaml").read_text()) | {"preset": evil}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    content = json.loads((run / "eval" / f"{EVALUATION}.json").read_text())
    content["references"] = {evil: content["references"]["random policy"]}
    (run / "eval" / f"{EVALUATION}.json").write_text(json.dumps(content))
    assert main(["export", str(run), "--out", str(out)]) == 0
    card = (out / "README.md").read_text()
    assert ModelCard(card).data["library_name"] == "metarl"
    _, _, text = card.split("---\n", 2)
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    outside = re.sub(r"`[^`\n]*`", "", outside)
    assert "script" in text
    assert "script" not in outside
    assert "`" not in outside


@pytest.mark.parametrize(
    ("missing", "flags", "said"),
    [
        ("DONE", (), "has not finished: its folder holds no DONE"),
        (f"eval/{EVALUATION}.json", (), "holds no standard evaluation of these weights"),
        ("metrics.jsonl", (), "metrics.jsonl"),
        ("", ("--best",), "holds no weights in best/"),
        ("", ("--license", "MIT License"), "--license must be an identifier such as 'mit'"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    missing: str,
    flags: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, out = copy_of_run(tmp_path), tmp_path / "out"
    if missing:
        (run / missing).unlink()
    assert main(["export", str(run), "--out", str(out), *flags]) in (2, 74)
    assert said in capsys.readouterr().err
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))


def test_foreign_videos_and_links_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = copy_of_run(tmp_path), tmp_path / "out"
    (run / "videos").mkdir()
    (run / "videos" / "a.mp4").symlink_to("/etc/passwd")
    assert main(["export", str(run), "--out", str(out)]) == 2
    assert "a.mp4: not a regular file" in capsys.readouterr().err
    (run / "videos" / "a.mp4").rename(run / "videos" / "a.html")
    assert main(["export", str(run), "--out", str(out)]) == 2
    assert "'videos/a.html' is no part of an export" in capsys.readouterr().err
    assert not out.exists()
