"""Which task is shown, and that what is shown is what evaluation scores."""

import json
from pathlib import Path

import pytest
import torch

from metarl.checks import InputError
from metarl.envs.task_dicts import as_dicts
from metarl.experiments.arguments import plain_console
from metarl.experiments.cli import main
from metarl.experiments.evaluation.scoring import evaluate, load_run
from metarl.experiments.video.scene import SceneArgs, numbers_of, open_scene

RESULTS = Path(__file__).resolve().parents[3] / "results"
NAVIGATION, TRIALS = RESULTS / "navigation", RESULTS / "compare" / "grid-maze" / "rl2-s1"
QUIET = plain_console(quiet=True)


def test_what_is_shown_is_what_evaluation_scores() -> None:
    scene = open_scene(SceneArgs(run_dir=NAVIGATION, task="2", adaptations="0,1"), QUIET)
    experiment, parts, _ = load_run(
        NAVIGATION, "checkpoints", {"device": "cpu", "threads": 1}, QUIET
    )
    tasks = parts.distribution.held_out(3)
    curve = evaluate(experiment, parts, parts.agent, tasks, 1)
    assert scene.scores == tuple(curve.per_task[2].tolist())
    assert torch.equal(scene.tasks.parameter["goal"][0], tasks.parameter["goal"][2])
    assert (scene.label, scene.shown) == ("task2", (0, 1))
    assert scene.captions == ("after 0 adaptations", "after 1 adaptation")
    goal = ", ".join(f"{x:.3g}" for x in tasks.parameter["goal"][2].tolist())
    assert scene.title == f"maml-trpo/navigation, task 2; goal {goal}"


def test_an_agent_with_memory_is_shown_in_the_episodes_of_a_trial() -> None:
    scene = open_scene(SceneArgs(run_dir=TRIALS), QUIET)
    experiment, parts, _ = load_run(TRIALS, "checkpoints", {"device": "cpu", "threads": 1}, QUIET)
    curve = evaluate(
        experiment, parts, parts.agent, parts.distribution.held_out(1), experiment.adaptations
    )
    assert scene.scores == (float(curve.per_task[0, 0]), float(curve.per_task[0, -1]))
    last = experiment.adaptations
    assert scene.shown == (0, last)
    assert scene.captions == ("episode 1 of the trial", f"episode {last + 1} of the trial")
    # Walls are too long for a title.
    cells = (scene.tasks.parameter[name][0].tolist() for name in ("start", "goal"))
    (a, b), (c, d) = cells
    assert scene.title == f"rl2/grid-maze, task 0; start {a:g}, {b:g}; goal {c:g}, {d:g}"


def test_a_task_of_ones_own_has_a_name_of_its_own() -> None:
    goal = {"goal": [0.25, -0.5]}
    scene, same, other = (
        open_scene(SceneArgs(run_dir=NAVIGATION, task=text, adaptations="0"), QUIET)
        for text in (json.dumps(goal), '{"goal":  [0.25, -0.50]}', '{"goal": [0.5, 0.25]}')
    )
    assert as_dicts(scene.tasks) == [goal]
    assert scene.label == same.label != other.label
    assert scene.label.startswith("task-")
    assert scene.title == f"maml-trpo/navigation, task {scene.label[5:]}; goal 0.25, -0.5"


def test_numbers_of_adaptations() -> None:
    assert numbers_of("") == ()
    assert numbers_of("0, 1,12") == (0, 1, 12)
    for wrong in ("0,,1", "1,0", "1,1", "-1", "1.5", "x", ",", "0,1,2,3,4,5,6,7,8", "9" * 5000):
        with pytest.raises(InputError, match="ascending whole numbers"):
            numbers_of(wrong)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--task", "x"], "--task is not JSON"),
        (["--task", "-1"], "--task must be a whole number from 0 to 9999"),
        (["--task", "10000"], "--task must be a whole number from 0 to 9999"),
        (["--task", "true"], "--task must be a whole number"),
        (["--task", "[" * 100_000], "--task is not JSON"),
        (["--task", '{"gaol": [0, 0]}'], "did you mean 'goal'"),
        (["--task", '{"goal": [0, 9]}'], "goal (where to go) must be 2 numbers"),
        (["--episode", "20"], "--episode must be from 0 to 19"),
        (["--episode", "-1"], "episode must be a whole number"),
        (["--adaptations", "3,1"], "--adaptations must be up to 8 ascending"),
        (["--fps", "0.001"], "fps must be a number from 0.1 to 1000, got 0.001"),
        (["--fps", "1e9"], "fps must be a number from 0.1 to 1000"),
        (["--out", "nowhere/film.mp4"], "--out must be a file in a folder that exists"),
        (["--best"], "holds no weights in best/"),
    ],
)
def test_mistakes_are_told_in_a_line(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["video", str(NAVIGATION), *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert all(line.startswith("metarl: ") for line in error.splitlines())


def test_what_has_no_pictures_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("video", "play"):
        assert main([command, str(RESULTS / "bandit")]) == 2
        assert "metarl/BernoulliBandit-v0 cannot be drawn" in capsys.readouterr().err
    assert main(["video", str(RESULTS / "bench")]) == 2
