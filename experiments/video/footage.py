"""Scenes as pictures: one panel for each number of adaptations, side by side, with captions."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from metarl.envs import drawing
from metarl.envs.drawing import Raster
from metarl.envs.mujoco_env import MujocoEnv
from metarl.envs.told import told
from metarl.experiments.experiment import Experiment
from metarl.experiments.video.scene import Scene, drawable
from metarl.protocols import CanClose
from metarl.sampler import replay

_SMOOTH = 30.0
"""Frames per second, about, of what moves in seconds."""
_STEPS_PER_SECOND = 10.0
"""Of what moves in steps that have no duration."""
_NARROWEST = 200  # pixels: a caption needs them
_GAP = 8
_LINE = 18
_TEXT = 13
_INK: drawing.Colour = (40, 44, 52)


class Pace(NamedTuple):
    """How steps become frames."""

    every: int
    """Steps from one frame to the next."""
    rate: float
    """Frames per second."""


class Footage(NamedTuple):
    """What is shown, frame by frame."""

    frames: Iterator[Raster]
    """[height, width, 3] RGB, all of one size, which is even: encoders want it so."""
    number: int
    """How many they are."""
    rate: float
    """Frames per second."""


def pace_of(experiment: Experiment, fps: float | None) -> Pace:
    """Return how an environment is shown.

    Where a step has a duration, at its real speed, with about ``fps`` frames per second; other
    environments at so many steps per second.
    """
    _, env = drawable(experiment)
    if not isinstance(env, MujocoEnv):
        return Pace(1, fps or _STEPS_PER_SECOND)
    seconds = env.physics.dt
    every = max(1, round(1.0 / ((fps or _SMOOTH) * seconds)))
    return Pace(every, 1.0 / (every * seconds))


def film(scene: Scene, pace: Pace, widest: int | None = None) -> Footage:
    """Draw a scene; panels are at most ``widest`` pixels wide."""
    lengths = [int(scene.rounds[number].mask[0, scene.episode].sum()) for number in scene.shown]
    times = shown_times(max(lengths), pace.every)
    return Footage(_frames(scene, times, widest), len(times), pace.rate)


def shown_times(length: int, every: int) -> list[int]:
    """Return the times that are shown of an episode of so many steps: its start and end too."""
    return [*range(0, length, every), length]


def caption_of(scene: Scene, panel: int, time: int) -> tuple[str, str]:
    """Return the two lines above a panel: what it is; and the return so far, and when."""
    batch = scene.rounds[scene.shown[panel]]
    reward, length = batch.reward[0, scene.episode], int(batch.mask[0, scene.episode].sum())
    so_far = f"return {float(reward[:time].sum()):.2f}, "
    if time < length or length == len(reward):
        return scene.captions[panel], f"{so_far}step {time}"
    why = "simulator failed" if bool(batch.faulty[0, scene.episode]) else "ended"
    return scene.captions[panel], f"{so_far}{why} at step {length}"


def compose(title: str, panels: Sequence[tuple[Raster, tuple[str, str]]]) -> Raster:
    """Put pictures of one size side by side, each under its caption, all under a title."""
    height, width, _ = panels[0][0].shape
    top = 3 * _LINE + _GAP
    whole = Image.new(
        "RGB",
        (_even(len(panels) * (width + _GAP) + _GAP), _even(top + height + _GAP)),
        drawing.PAPER,
    )
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(_TEXT)
    pen.text((_GAP, 3), title, fill=_INK, font=font)
    for place, (picture, lines) in enumerate(panels):
        left = _GAP + place * (width + _GAP)
        whole.paste(Image.fromarray(picture), (left, top))
        edges = (left - 1, top - 1, left + width, top + height)
        pen.rectangle(edges, outline=drawing.LINES)
        for row, line in enumerate(lines, start=1):
            pen.text((left, row * _LINE + 5), line, fill=_INK, font=font)
    return np.asarray(whole)


def _frames(scene: Scene, times: Sequence[int], widest: int | None) -> Iterator[Raster]:
    panels = (_pictures(scene, number, times) for number in scene.shown)
    for time, *pictures in zip(times, *panels, strict=True):
        captions = (caption_of(scene, panel, time) for panel in range(len(pictures)))
        fitted = [_fit(picture, widest) for picture in pictures]
        yield compose(scene.title, list(zip(fitted, captions, strict=True)))


def _pictures(scene: Scene, number: int, times: Sequence[int]) -> Iterator[Raster]:
    """Replay a round, and draw the episode as it is at each time, or as it was at its end."""
    experiment, batch, episode = scene.experiment, scene.rounds[number], scene.episode
    distribution, drawn = drawable(experiment)
    env = told(distribution, drawn) if experiment.told else drawn
    length = int(batch.mask[0, episode].sum())
    path: list[NDArray[np.float64]] = []
    shown = [min(time, length) for time in times]
    try:
        for now in replay(env, scene.tasks, batch, number, scene.streams):
            if now in shown:
                picture = drawn.picture(0, episode, path)
                yield from itertools.repeat(picture, shown.count(now))
            if now == length:
                break
            path.append(drawn.place(0, episode))
    finally:
        if isinstance(drawn, CanClose):
            drawn.close()


def _fit(picture: Raster, widest: int | None) -> Raster:
    """Return a picture that is wide enough for a caption, and not too wide."""
    height, width, _ = picture.shape
    if width < _NARROWEST:
        factor = math.ceil(_NARROWEST / width)
        return picture.repeat(factor, axis=0).repeat(factor, axis=1)
    if widest is None or width <= widest:
        return picture
    size = (widest, round(height * widest / width))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def _even(length: int) -> int:
    return length + length % 2
