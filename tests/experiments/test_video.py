"""Footage as files, the commands that write and show it, and machines that lack what it takes."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from metarl.checks import InputError
from metarl.envs.drawing import Raster
from metarl.experiments.arguments import plain_console
from metarl.experiments.cli import main
from metarl.experiments.footage import Footage
from metarl.experiments.play import play
from metarl.experiments.scene import SceneArgs, open_scene
from metarl.experiments.video_files import (
    choose_format,
    gif_durations,
    mp4_fault,
    write_video,
)

RESULTS = Path(__file__).resolve().parents[2] / "results"
NAVIGATION = RESULTS / "navigation"
FAULT = mp4_fault()
needs_ffmpeg = pytest.mark.skipif(bool(FAULT), reason=str(FAULT))
COLOURS = [(255, 0, 0), (0, 160, 0), (0, 0, 255), (128, 128, 128)]


def stripes() -> Footage:
    """Frames of one colour each."""
    images = (np.full((34, 50, 3), colour, dtype=np.uint8) for colour in COLOURS)
    return Footage(images, len(COLOURS), 5.0)


def lost() -> str | None:
    return "no MP4 can be written here: pip install 'metarl-suite[video]' (gone)"


@needs_ffmpeg
def test_an_mp4_holds_every_frame_and_the_last_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_video(path, stripes())
    reader = imageio_ffmpeg.read_frames(str(path))
    facts = next(reader)
    assert (facts["size"], facts["fps"]) == ((50, 34), 5.0)
    frames = [np.frombuffer(data, dtype=np.uint8).reshape(34, 50, 3) for data in reader]
    assert len(frames) == 4 + 8
    for frame, colour in zip(frames, COLOURS, strict=False):
        assert abs(frame.mean((0, 1)) - colour).max() < 12
    assert [entry.name for entry in tmp_path.iterdir()] == ["film.mp4"]


def test_a_gif_holds_every_frame_at_its_time(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    write_video(path, stripes())
    with Image.open(path) as film:
        assert (film.size, film.info["loop"]) == ((50, 34), 0)
        durations = []
        for place, colour in enumerate(COLOURS):
            film.seek(place)
            durations.append(film.info["duration"])
            assert film.convert("RGB").getpixel((20, 20)) == pytest.approx(colour, abs=2)
        assert film.n_frames == len(COLOURS)
    assert durations == [200, 200, 200, 1700]


def test_rounding_of_a_gifs_times_does_not_add_up() -> None:
    durations = gif_durations(223, 1 / 0.045)
    assert set(durations[:-1]) == {40, 50}
    assert sum(durations) - 1500 == pytest.approx(223 * 45, abs=10)
    assert gif_durations(2, 1000.0) == [10, 1510]


@pytest.mark.parametrize("name", ["film.gif", "film.mp4"])
def test_what_breaks_off_leaves_the_old_file_alone(tmp_path: Path, name: str) -> None:
    def broken() -> Iterator[Raster]:
        yield np.zeros((34, 50, 3), dtype=np.uint8)
        raise KeyboardInterrupt

    path = tmp_path / name
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_video(path, Footage(broken(), 2, 5.0))
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [(name, "old")]


def test_the_format_is_what_is_asked_for_or_what_can_be_written() -> None:
    film = Path("film")
    assert choose_format(None, None, lambda: None) == ("mp4", None)
    assert choose_format("gif", None, lost) == ("gif", None)
    assert choose_format(None, film.with_suffix(".gif"), lost) == ("gif", None)
    assert choose_format("mp4", film.with_suffix(".mp4"), lambda: None) == ("mp4", None)
    chosen, note = choose_format(None, None, lost)
    assert chosen == "gif"
    assert note is not None
    assert "pip install 'metarl-suite[video]'" in note
    for asked, out in (("mp4", None), (None, film.with_suffix(".mp4"))):
        with pytest.raises(InputError, match=r"metarl-suite\[video\].*\n.*--format gif"):
            choose_format(asked, out, lost)  # type: ignore[arg-type]
    for asked, out in (("gif", "film.mp4"), (None, "film.avi"), ("gif", "film"), (None, "film")):
        with pytest.raises(InputError, match="--out must end in the format"):
            choose_format(asked, Path(out), lost)  # type: ignore[arg-type]


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
