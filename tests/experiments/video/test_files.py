"""Footage as files, and machines that lack an encoder."""

from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from metarl.checks import InputError
from metarl.envs.drawing import Raster
from metarl.experiments.video.files import (
    Format,
    choose_format,
    gif_durations,
    mp4_fault,
    write_video,
)
from metarl.experiments.video.footage import Footage

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
        assert isinstance(film, GifImageFile)
        assert (film.size, film.info["loop"]) == ((50, 34), 0)
        durations = []
        for place, colour in enumerate(COLOURS):
            film.seek(place)
            durations.append(film.info["duration"])
            assert film.convert("RGB").getpixel((20, 20)) == pytest.approx(colour, abs=2)
        assert film.n_frames == len(COLOURS)
    assert durations == [200, 200, 200, 1700]


@needs_ffmpeg
@pytest.mark.parametrize("rate", [0.1, 1 / 0.045, 1000.0])
@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_all_rates_that_may_be_asked_for_can_be_written(
    tmp_path: Path, name: str, rate: float
) -> None:
    write_video(tmp_path / name, stripes()._replace(rate=rate))
    assert (tmp_path / name).stat().st_size > 0


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


@needs_ffmpeg
def test_a_colon_in_a_relative_path_is_no_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(Path("run:1.mp4"), stripes())
    assert next(imageio_ffmpeg.read_frames(str(tmp_path / "run:1.mp4")))["size"] == (50, 34)


@needs_ffmpeg
@pytest.mark.parametrize(
    "wrong",
    [
        'case "$*" in *libx264*) cat > /dev/null; exit 1;; esac',  # fails at the end
        'case "$*" in *libx264*) exit 1;; esac',  # is gone before the first frame
    ],
)
def test_an_encoder_that_fails_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    real, broken = imageio_ffmpeg.get_ffmpeg_exe(), tmp_path / "ffmpeg"
    broken.write_text(f'#!/bin/sh\n{wrong}\nexec "{real}" "$@"\n')
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    path = tmp_path / "film.mp4"
    path.write_text("old")
    with pytest.raises(OSError, match="ffmpeg could not write the MP4") as caught:
        write_video(path, stripes())
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert {entry.name for entry in tmp_path.iterdir()} == {"ffmpeg", "film.mp4"}


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
    mp4s: tuple[tuple[Format | None, Path | None], ...] = (
        ("mp4", None),
        (None, film.with_suffix(".mp4")),
    )
    for asked, out in mp4s:
        with pytest.raises(InputError, match=r"metarl-suite\[video\].*\n.*--format gif"):
            choose_format(asked, out, lost)
    others: tuple[tuple[Format | None, str], ...] = (
        ("gif", "film.mp4"),
        (None, "film.avi"),
        ("gif", "film"),
        (None, "film"),
    )
    for asked, name in others:
        with pytest.raises(InputError, match="--out must end in the format"):
            choose_format(asked, Path(name), lost)
