"""Frames of a scene: how many, what they show, what is written above them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.experiments.arguments import plain_console
from metarl.experiments.cli import main
from metarl.experiments.evaluation.scoring import load_run
from metarl.experiments.video.footage import Pace, caption_of, compose, film, pace_of, shown_times
from metarl.experiments.video.scene import Scene, SceneArgs, open_scene
from tests.envs.test_pictures import needs_gl

RESULTS = Path(__file__).resolve().parents[3] / "results"
QUIET = plain_console(quiet=True)


def scene_of(run: str, **more: Any) -> Scene:
    return open_scene(SceneArgs(run_dir=RESULTS / run, **more), QUIET)


@pytest.fixture(scope="module")
def navigation() -> Scene:
    return scene_of("navigation", adaptations="0,3")


def test_there_are_frames_of_the_start_and_of_the_end() -> None:
    assert shown_times(6, 2) == [0, 2, 4, 6]
    assert shown_times(7, 3) == [0, 3, 6, 7]
    assert shown_times(0, 5) == [0]


def test_panels_lie_side_by_side_under_their_captions(navigation: Scene) -> None:
    footage = film(navigation, Pace(10, 1.0))
    frames = list(footage.frames)
    assert len(frames) == footage.number == 11  # the episode before adaptation takes 100 steps
    # Two pictures of 256 x 256 with gaps of 8, under three lines of 18 and a gap.
    assert {frame.shape for frame in frames} == {(62 + 256 + 8, 2 * 264 + 8, 3)}
    panels = [[frame[62:318, left : left + 256] for frame in frames] for left in (8, 272)]
    assert np.array_equal(panels[0][0], panels[1][0])  # the same start and goal
    assert not np.array_equal(panels[0][5], panels[1][5])
    # After adaptation the goal is reached in a few steps, and the picture stands.
    assert np.array_equal(panels[1][1], panels[1][10])
    assert not np.array_equal(panels[0][9], panels[0][10])
    above = [frame[:62] for frame in frames]
    assert (above[0] < 128).any()
    assert not np.array_equal(above[1], above[2])


def test_captions_tell_the_return_so_far_and_the_end(navigation: Scene) -> None:
    reward = [navigation.rounds[number].reward[0, 0] for number in (0, 3)]
    assert caption_of(navigation, 0, 0) == ("after 0 adaptations", "return 0.00, step 0")
    assert caption_of(navigation, 0, 7)[1] == f"return {float(reward[0][:7].sum()):.2f}, step 7"
    whole = f"return {float(reward[0].sum()):.2f}"
    assert caption_of(navigation, 0, 100)[1] == f"{whole}, step 100"
    length = int(navigation.rounds[3].mask[0, 0].sum())
    assert 0 < length < 100
    before, at, later = (caption_of(navigation, 1, time)[1] for time in (length - 1, length, 100))
    assert before.endswith(f", step {length - 1}")
    assert at == later == f"return {float(reward[1].sum()):.2f}, ended at step {length}"
    faulty = navigation.rounds[3].faulty.clone()
    faulty[0, 0] = True
    rounds = [*navigation.rounds[:3], navigation.rounds[3]._replace(faulty=faulty)]
    failed = caption_of(navigation._replace(rounds=rounds), 1, 100)[1]
    assert failed.endswith(f"simulator failed at step {length}")


def test_another_episode_is_shown_where_it_is_asked_for(navigation: Scene) -> None:
    other = navigation._replace(episode=4)
    assert caption_of(other, 0, 50) != caption_of(navigation, 0, 50)
    frames = [list(film(scene, Pace(50, 1.0)).frames)[1] for scene in (navigation, other)]
    assert not np.array_equal(frames[0][62:], frames[1][62:])


def test_trials_of_agents_with_memory_and_small_pictures() -> None:
    scene = scene_of("compare/grid-maze/rl2-s1", adaptations="0,1")
    footage = film(scene, Pace(20, 1.0))
    frame = next(footage.frames)
    assert frame.shape == (62 + 288 + 8, 2 * (288 + 8) + 8, 3)  # cells of 16 pixels, doubled


def test_a_run_that_is_told_its_tasks_is_shown_too(tmp_path: Path) -> None:
    few = ("--iterations", "1", "--tasks-per-update", "2", "--episodes", "2", "--told")
    short = ("--env.horizon", "5", "--checkpoint-every", "0", "--evaluate-every", "0")
    out = tmp_path / "run"
    assert main(["train", "reptile/navigation", *few, *short, "--out", str(out)]) == 0
    scene = open_scene(SceneArgs(run_dir=out, adaptations="0,1"), QUIET)
    assert scene.rounds[0].obs.shape[-1] == 4
    frames = list(film(scene, Pace(1, 1.0)).frames)
    assert len(frames) == 6
    assert not np.array_equal(frames[0][62:], frames[5][62:])


def test_a_frame_has_even_sides() -> None:
    odd = np.zeros((11, 201, 3), dtype=np.uint8)
    frame = compose("title", [(odd, ("above", "below"))])
    assert frame.shape == (82, 218, 3)
    assert (frame[62:73, 8:209] == 0).all()


def test_seconds_are_shown_at_their_speed() -> None:
    machine: dict[str, object] = {"device": "cpu", "threads": 1}
    paces = {}
    for run in ("half-cheetah-dir", "walker2d-rand-params", "navigation"):
        experiment, _, _ = load_run(RESULTS / run, "checkpoints", machine, QUIET)
        paces[run] = [pace_of(experiment, fps) for fps in (None, 10.0)]
    # Steps of 0.05 s and of 0.008 s.
    assert paces["half-cheetah-dir"] == [Pace(1, 20.0), Pace(2, 10.0)]
    usual, slow = paces["walker2d-rand-params"]
    assert (usual.every, slow.every) == (4, 12)
    assert usual.rate * usual.every == pytest.approx(slow.rate * slow.every) == pytest.approx(125)
    assert paces["navigation"] == [Pace(1, 10.0), Pace(1, 10.0)]


@needs_gl
def test_bodies_before_and_after_differ_and_are_shrunk_for_a_gif() -> None:
    scene = scene_of("half-cheetah-dir", adaptations="0,1")
    footage = film(scene, Pace(50, 0.4), widest=120)
    frames = list(footage.frames)
    assert len(frames) == footage.number == 3
    assert frames[0].shape == (62 + 90 + 8, 2 * 128 + 8, 3)
    left, right = (frames[2][62:152, x : x + 120].astype(int) for x in (8, 136))
    assert left.std() > 10
    assert abs(left - right).mean() > 2
