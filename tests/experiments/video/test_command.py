"""``metarl video`` and ``metarl play``, also on machines that lack what they take."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from metarl.envs.drawing import Raster
from metarl.experiments.arguments import plain_console
from metarl.experiments.cli import main
from metarl.experiments.video.play import play
from metarl.experiments.video.scene import SceneArgs, open_scene
from tests.experiments.video.test_files import needs_ffmpeg

RESULTS = Path(__file__).resolve().parents[3] / "results"
NAVIGATION = RESULTS / "navigation"


def run_command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "metarl.experiments", *arguments]
    clean = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    return subprocess.run(
        command, capture_output=True, text=True, env=clean | environment, check=False
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(NAVIGATION, tmp_path / "run"))


@needs_ffmpeg
def test_the_command_writes_into_the_folder_of_the_run(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["video", str(run), "--task", "1", "--adaptations", "0,1", "--episode", "2"]) == 0
    film = run / "videos" / "task1_adaptations0-1_episode2.mp4"
    said = capsys.readouterr()
    assert said.out == f"wrote {film}: 101 frames, 10.1 s\n"
    assert "score over E = 20: " in said.err
    assert next(imageio_ffmpeg.read_frames(str(film)))["size"] == (536, 326)


def test_without_a_display_and_an_encoder_play_writes_a_gif(run: Path) -> None:
    ended = run_command(
        *("play", str(run), "--adaptations", "3"),
        MPLBACKEND="agg",
        IMAGEIO_FFMPEG_EXE="/nonexistent/ffmpeg",
    )
    assert ended.returncode == 0, ended.stderr
    assert "no window can be opened here" in ended.stderr
    assert "a GIF is written instead" in ended.stderr
    (film,) = (run / "videos").iterdir()
    assert ended.stdout.startswith(f"wrote {film}: 3 frames")
    with Image.open(io.BytesIO(film.read_bytes())) as image:
        # A panel of 240 pixels; after 3 adaptations the goal is reached in two steps.
        assert film.name == "task0_adaptations3.gif"
        assert isinstance(image, GifImageFile)
        assert (image.size, image.n_frames) == ((240 + 16, 62 + 240 + 8), 3)


def test_without_opengl_nothing_is_written_and_it_says_what_to_install(tmp_path: Path) -> None:
    run = shutil.copytree(RESULTS / "half-cheetah-dir", tmp_path / "run")
    ended = run_command("video", str(run), MUJOCO_GL="disable")
    assert ended.returncode == 2
    assert "apt-get install libegl1" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (run / "videos").exists()


class FourFrames:
    """A window that is closed after four frames."""

    def __init__(self) -> None:
        self.shown: list[Raster] = []
        self.waited = 0.0

    @property
    def is_open(self) -> bool:
        return len(self.shown) < 4

    def show(self, frame: Raster, seconds: float) -> None:
        assert seconds > 0.0
        self.shown.append(frame)
        self.waited += seconds


def test_play_goes_round_until_the_window_is_closed() -> None:
    args = SceneArgs(run_dir=NAVIGATION, adaptations="3")
    window = FourFrames()
    play(open_scene(args, plain_console(quiet=True)), window)
    # Three frames until the goal is reached, then the first again.
    assert len(window.shown) == 4
    assert np.array_equal(window.shown[0], window.shown[3])
    assert not np.array_equal(window.shown[0], window.shown[1])
    assert 0.1 < window.waited < 1.2  # due at 0.1, 0.2, 0.3, and 0.1 s after the start
