"""The command line: what it prints and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metarl.experiments.cli import main
from metarl.experiments.presets import PRESETS
from metarl.logger import read_metrics

BANDIT = "maml-trpo/bandit"


def train(out: Path, *flags: str, preset: str = BANDIT) -> int:
    return main(["train", preset, "--out", str(out), *flags])


def weights(run: Path, iteration: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"{iteration:06d}" / "tensors.safetensors")


def untimed(run: Path) -> list[dict[str, float]]:
    rows = read_metrics(run / "metrics.jsonl")
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for name in (*PRESETS, "metarl/HalfCheetahVel-v0", "reptile", "promp-2019"):
        assert name in shown


def test_run_folder_holds_what_it_should(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(out, "--iterations", "3", "--evaluate-every", "2") == 0
    there = {path.name for path in out.iterdir()}
    expected = {"config.yaml", "system.json", "metrics.jsonl", "tb", "checkpoints", "best", "eval"}
    assert expected | {"DONE"} <= there
    assert [row["iteration"] for row in untimed(out)] == [1, 2, 3]
    assert {"meta/pre_return", "meta/post_return", "train/approx_kl"} <= untimed(out)[0].keys()
    assert (out / "eval" / "000003_tasks40_adaptations3.png").read_bytes()[1:4] == b"PNG"
    content = json.loads((out / "eval" / "000003_tasks40_adaptations3.json").read_text())
    assert set(content["references"]) == {"random policy", "untrained, adapted"}


def test_resumed_run_equals_uninterrupted_run(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = ("--seed", "4", "--evaluate-every", "3")
    assert train(whole, "--iterations", "4", *flags) == 0
    assert train(parts, "--iterations", "2", *flags) == 0
    assert train(parts, "--iterations", "4", *flags) == 0
    assert untimed(whole) == untimed(parts)
    left, right = weights(whole, 4), weights(parts, 4)
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert left.keys() == right.keys()


def test_another_config_in_the_same_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run", "--iterations", "1") == 0
    before = sorted(path.name for path in (tmp_path / "run").rglob("*"))
    assert train(tmp_path / "run", "--iterations", "1", "--agent.inner-lr", "0.25") == 2
    assert "agent.inner_lr: the run has 0.5, asked for 0.25" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == before


def test_evaluate_prints_one_json_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "run", "--iterations", "1")
    capsys.readouterr()
    flags = ["--adaptations", "2", "--tasks", "5", "--json"]
    assert main(["evaluate", str(tmp_path / "run"), *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    keys = {"preset", "iteration", "adaptations", "mean", "iqm", "ci_low", "ci_high", "per_task"}
    keys |= {"protocol", "split", "episodes_scored", "episodes_spent", "env_steps"}
    assert result.keys() == keys | {"success", "success_per_task", "faulty_episodes"}
    assert (result["preset"], result["iteration"]) == (BANDIT, 1)
    assert result["adaptations"] == [0, 1, 2]
    columns = list(zip(*result["per_task"], strict=True))
    assert len(result["per_task"]) == 5
    for number, column in enumerate(columns):
        assert sum(column) / 5 == pytest.approx(result["mean"][number])
        assert result["ci_low"][number] <= result["iqm"][number] <= result["ci_high"][number]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "did you mean 'train'"),
        (["train"], "usage: metarl train PRESET"),
        (["train", "maml-trpo/bandti"], "did you mean 'maml-trpo/bandit'"),
        (["train", "half-cheetah-dri"], "half-cheetah-dir"),
        (["train", BANDIT, "--agent.inner-lr", "-0.1"], "MamlTrpoConfig.inner_lr must be"),
        (["train", BANDIT, "--agent.inner-lr", "nan"], "got nan"),
        (["train", BANDIT, "--tasks-per-update", "0"], "tasks_per_update must be a whole number"),
        (["train", BANDIT, "--seed", "-1"], "Experiment.seed must be"),
        (["train", BANDIT, "--agent.policy.hidden-sizes", "0"], "hidden_sizes must be"),
        (["bench"], "usage: metarl bench PRESET"),
        (["bench", "maml-trpo/bandti"], "did you mean 'maml-trpo/bandit'"),
        (["bench", BANDIT, "--rounds", "0"], "rounds must be a whole number"),
        (["bench", BANDIT, "--phases"], "phases must not be empty"),
        (["bench", BANDIT, "--out", "no/such/folder.json"], "got no/such/folder.json"),
        (["bench", "gpu", "--rounds", "0"], "rounds must be a whole number"),
        (["evaluate", "no/such/run"], "no/such/run is not a run folder"),
        (["list", "everything"], "list: no 'everything'; known: envs"),
        (["train", BANDIT, "--agent.baseline-ridge", "1e-30"], "baseline_ridge must be"),
        (["train", "reptile/bandit", "--agent.outer-lr", "1e39"], "outer_lr must be"),
        (["train", "reptile/bandit", "--agent.first-order"], "first_order must stay off"),
        (["train", "cavia/navigation", "--adaptations", "0"], "adaptations must be at least 1"),
        (["train", "rl2/bandit", "--tasks-per-update", "7"], "minibatches=8 needs as many trials"),
        (["train", BANDIT, "--agent.policy.min-std", "2"], "min_std must not be above init_std"),
        (["train", BANDIT, "--out", __file__], "is a file, not a folder"),
    ],
)
def test_mistakes_end_with_2_and_say_what_is_wrong(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert all(line.startswith("metarl: ") for line in shown.err.splitlines())
    assert shown.out == ""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--agent.iner-lr", "0.1"], "--agent.inner-lr"),
        (["--iterations", "many"], "--iterations"),
        (["--device", "gpu"], "cuda"),
    ],
)
def test_malformed_flags_end_with_2(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["train", BANDIT, *flags])
    assert leaving.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_missing_gpu_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", BANDIT, "--device", "cuda"]) == 2
    assert "torch sees no GPU here" in capsys.readouterr().err


def test_foreign_and_unwritable_folders_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("a")
    assert train(tmp_path / "thesis") == 2
    assert "thesis" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.tex"]
    assert train(tmp_path / "thesis" / "chapter1.tex" / "run") == 74
    assert "chapter1.tex" in capsys.readouterr().err


def test_divergence_ends_with_1_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--agent.inner-lr", "1e38", "--iterations", "3")
    assert train(tmp_path / "run", *flags, preset="maml-trpo/navigation") == 1
    shown = capsys.readouterr().err.splitlines()[-1]
    assert "the policy in metarl/PointNavigation-v0: action is not finite" in shown


def test_no_held_out_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path / "run", "--iterations", "1")
    assert main(["evaluate", str(tmp_path / "run"), "--tasks", "0"]) == 2
    assert "EvaluateArgs.tasks must be" in capsys.readouterr().err


def test_broken_checkpoint_falls_back_to_the_previous_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert train(out, "--iterations", "4", "--checkpoint-every", "1") == 0
    newest = out / "checkpoints" / "000004" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    capsys.readouterr()
    assert main(["evaluate", str(out), "--tasks", "2", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["iteration"] == 3
    assert str(newest.name) in shown.err
    for folder in (out / "checkpoints").iterdir():
        (folder / "manifest.json").write_text("{}")
    assert main(["evaluate", str(out), "--tasks", "2", "--json"]) == 2
    assert "manifest.json" in capsys.readouterr().err


def test_edited_config_is_refused_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(out, "--iterations", "1")
    config = out / "config.yaml"
    text = config.read_text().replace("inner_lr: 0.5", "iner_lr: fast")
    config.write_text(text)
    capsys.readouterr()
    assert main(["evaluate", str(out)]) == 2
    shown = capsys.readouterr().err
    assert "did you mean 'inner_lr'" in shown
    assert "agent.inner_lr is missing" in shown
    config.write_text(text.replace("iner_lr: fast", "inner_lr: fast"))
    assert main(["evaluate", str(out)]) == 2
    assert "agent.inner_lr must be" in capsys.readouterr().err


def test_lost_checkpoints_do_not_cost_the_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(out, "--iterations", "3")
    shutil.rmtree(out / "checkpoints")
    assert train(out, "--iterations", "3") == 2
    assert "3 meta-iterations but no checkpoint" in capsys.readouterr().err
    assert len(untimed(out)) == 3


def test_fewer_iterations_than_there_are_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(out, "--iterations", "3")
    config = (out / "config.yaml").read_text()
    assert train(out, "--iterations", "2") == 2
    assert "3 meta-iterations already" in capsys.readouterr().err
    assert (out / "config.yaml").read_text() == config


def test_damaged_best_weights_do_not_stop_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run[" / "red]"
    train(out, "--iterations", "2", "--evaluate-every", "1")
    capsys.readouterr()
    assert main(["evaluate", str(out), "--best", "--tasks", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["iteration"] in (1, 2)
    for weights_file in (out / "best").glob("*/tensors.safetensors"):
        weights_file.write_bytes(b"")
    assert train(out, "--iterations", "3", "--evaluate-every", "1") == 0
    assert "warning: " in capsys.readouterr().err


def test_a_run_from_a_gpu_can_be_evaluated_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(out, "--iterations", "1")
    text = (out / "config.yaml").read_text().replace("device: cpu", "device: cuda")
    (out / "config.yaml").write_text(text)
    capsys.readouterr()
    assert main(["evaluate", str(out), "--tasks", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["iteration"] == 1


def test_damaged_metrics_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    train(out, "--iterations", "2")
    (out / "metrics.jsonl").write_text('nonsense\n{"iteration": 2}\n')
    assert train(out, "--iterations", "3") == 2
    assert "metrics.jsonl, line 1" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_is_no_mistake(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out
