"""Footage as files: MP4 by ffmpeg, GIF without anything else."""

import io
import itertools
import os
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from PIL import Image

from metarl.checkpoint import write_bytes_atomic
from metarl.checks import InputError
from metarl.envs.drawing import Raster
from metarl.experiments.video.footage import Footage

Format: TypeAlias = Literal["mp4", "gif"]
FORMATS: tuple[Format, ...] = get_args(Format)
_PAUSE = 1.5
"""Seconds for which the last frame stands."""
_CENTISECOND = 10  # ms: what GIF counts in
_NO_MP4 = "ffmpeg could not write the MP4, and said why on stderr"


def mp4_fault() -> str | None:
    """Return why no MP4 can be written here and what to install, or None."""
    try:
        import imageio_ffmpeg  # noqa: PLC0415  an extra, which few commands need

        imageio_ffmpeg.get_ffmpeg_version()
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        return f"no MP4 can be written here: pip install 'metarl-suite[video]' ({error})"
    return None


def choose_format(
    asked: Format | None, out: Path | None, fault: Callable[[], str | None] = mp4_fault
) -> tuple[Format, str | None]:
    """Return the format to write, and a note for the user where it is not the usual one.

    Args:
        asked: the format by name, if the user says.
        out: the file, if the user says: its suffix is a format too.
        fault: tells why no MP4 can be written, or None.

    Raises:
        InputError: name and suffix differ, the suffix is another one, or an MP4 is asked for and
            cannot be written.
    """
    suffix = None if out is None else out.suffix.removeprefix(".")
    named = {name for name in (asked, suffix) if name is not None}
    known = [name for name in FORMATS if name in named]
    if len(named) > 1 or len(known) < len(named):
        came = " and ".join(f"{text}" for text in (asked and f"--format {asked}", out) if text)
        raise InputError([f"--out must end in the format, .mp4 or .gif; got {came}"])
    if known == ["gif"]:
        return "gif", None
    why = fault()
    if why is None:
        return "mp4", None
    if known:
        raise InputError([why, "a GIF can be written instead: --format gif"])
    return "gif", f"{why}; a GIF is written instead"


def write_video(path: Path, footage: Footage) -> None:
    """Write footage into a file, whose suffix is the format; the last frame stands for a while.

    A file of that name stays as it was until the new one is whole.

    Raises:
        OSError: it cannot be written.
    """
    if path.suffix == ".gif":
        write_bytes_atomic(path, _gif(footage))
        return
    part = path.with_name(f".{path.stem}.{os.getpid()}.part.mp4")
    try:
        _write_mp4(part, footage)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _write_mp4(path: Path, footage: Footage) -> None:
    import imageio_ffmpeg  # noqa: PLC0415  an extra

    frames, pause = footage.frames, round(_PAUSE * footage.rate)
    frame = next(frames)
    height, width, _ = frame.shape
    # Sizes are even, as the colours' halved raster needs; nothing is gained by multiples of 16. The
    # path is absolute: in another one, ffmpeg takes what stands before a colon for a protocol.
    encoder = imageio_ffmpeg.write_frames(
        str(path.absolute()), (width, height), fps=footage.rate, quality=7, macro_block_size=2
    )
    encoder.send(None)
    try:
        _send(encoder, frame)
        for frame in frames:
            _send(encoder, frame)
        for _ in range(pause):
            _send(encoder, frame)
    finally:
        encoder.close()
    # How ffmpeg has ended nobody tells: what it has left does.
    try:
        written, _ = imageio_ffmpeg.count_frames_and_secs(str(path.absolute()))
    except RuntimeError:
        written = 0
    if written != footage.number + pause:
        raise OSError(f"{_NO_MP4}: of {footage.number + pause} frames {written} are in the file")


def _send(encoder: Generator[None, Any, None], frame: Raster) -> None:
    """Give ffmpeg a frame.

    Raises:
        OSError: ffmpeg has ended.
    """
    try:
        encoder.send(np.ascontiguousarray(frame))
    except OSError:
        raise OSError(_NO_MP4) from None  # What came holds ffmpeg's whole command.


def _gif(footage: Footage) -> bytes:
    images = map(_few_colours, footage.frames)
    data = io.BytesIO()
    next(images).save(
        data,
        "GIF",
        save_all=True,
        append_images=images,
        duration=gif_durations(footage.number, footage.rate),
        loop=0,
    )
    return data.getvalue()


def gif_durations(number: int, rate: float) -> list[int]:
    """Return for how long each frame stands, in ms, of which GIF knows multiples of 10.

    Rounding errors do not add up; the last frame stands for a while.
    """
    ends = [round(100.0 * frame / rate) for frame in range(number + 1)]
    durations = [_CENTISECOND * max(end - start, 1) for start, end in itertools.pairwise(ends)]
    return [*durations[:-1], durations[-1] + round(1000 * _PAUSE)]


def _few_colours(frame: Raster) -> Image.Image:
    # Small patches keep their colour in an octree. Dithering would make every frame differ from the
    # last everywhere, and files several times as large.
    method, dither = Image.Quantize.FASTOCTREE, Image.Dither.NONE
    return Image.fromarray(frame).quantize(method=method, dither=dither)
