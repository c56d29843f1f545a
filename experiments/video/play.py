"""``metarl play``: one task before and after adaptation, in a window."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from metarl.envs.drawing import Raster
from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.video.command import default_file, tell, write
from metarl.experiments.video.files import choose_format
from metarl.experiments.video.footage import film, pace_of
from metarl.experiments.video.scene import Scene, SceneArgs, open_scene

_SHORTEST_WAIT = 0.001  # s: a window that never waits never hears of being closed


class Window(Protocol):
    """Where frames are shown."""

    @property
    def is_open(self) -> bool:
        """Whether the user has not closed it."""
        ...

    def show(self, frame: Raster, seconds: float) -> None:
        """Show a frame for a while."""
        ...


@dataclass(frozen=True, kw_only=True)
class PlayArgs(SceneArgs):
    """Show one task before and after adaptation, side by side, until the window is closed.

    Without a display a video is written into the run's folder videos/.
    """


def play_command(arguments: Sequence[str]) -> int:
    """Run ``metarl play RUN_DIR [flags]``."""
    args = parse(PlayArgs, arguments, "play")
    notes = plain_console(stderr=True)
    scene = open_scene(args, notes)
    tell(scene, notes)
    window = open_window(scene.title)
    if window is not None:
        play(scene, window)
        return 0
    wanted, note = choose_format(None, None)
    notes.print("note: no window can be opened here (no display, or matplotlib knows no toolkit)")
    if note is not None:
        notes.print(f"note: {note}")
    write(scene, default_file(args, scene, wanted), None, plain_console())
    return 0


def play(scene: Scene, window: Window) -> None:
    """Show a scene again and again, as fast as it was or as fast as it can be drawn."""
    pace = pace_of(scene.experiment, None)
    while window.is_open:
        due = time.monotonic()
        for frame in film(scene, pace).frames:
            if not window.is_open:
                return
            due += 1.0 / pace.rate
            window.show(frame, max(due - time.monotonic(), _SHORTEST_WAIT))


def open_window(title: str) -> Window | None:
    """Return a window of matplotlib's, or None where there is no display or no toolkit."""
    from matplotlib import pyplot  # noqa: PLC0415  the only place that needs a window's machinery

    figure = pyplot.figure(num=title, facecolor="white")
    if figure.canvas.required_interactive_framework is None:
        pyplot.close(figure)
        return None
    return _PlotWindow(figure)


class _PlotWindow:
    """A figure of pyplot's, which is the window's until the user closes it."""

    def __init__(self, figure: Any) -> None:
        self.is_open = True
        self._figure = figure
        self._image: Any = None
        figure.canvas.mpl_connect("close_event", self._close)

    def show(self, frame: Raster, seconds: float) -> None:
        """Show a frame, and hear for a while what the user does."""
        figure = self._figure
        if self._image is None:
            figure.set_size_inches(frame.shape[1] / figure.dpi, frame.shape[0] / figure.dpi)
            axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
            axes.set_axis_off()
            self._image = axes.imshow(frame)
            figure.show()
        self._image.set_data(frame)
        figure.canvas.draw_idle()
        figure.canvas.start_event_loop(seconds)

    def _close(self, _event: object) -> None:
        self.is_open = False
        self._figure.canvas.stop_event_loop()
