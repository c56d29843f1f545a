"""Pictures of MuJoCo copies, drawn without a window.

On Linux they are made through EGL, which needs neither a display nor a graphics card; the variable
``MUJOCO_GL`` (egl, osmesa, glfw), if set, is obeyed.
"""

import itertools
import os
import platform
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from metarl.checks import CannotDrawError
from metarl.envs import drawing
from metarl.envs.physics import BatchPhysics

WIDTH, HEIGHT = 480, 360
_SHADOWS = 1024  # pixels along a side of the map of shadows
_MARKERS = 100  # room for this many beside the model's own shapes
_PATH = 400  # and for so many pieces of a path
_PATH_WIDTH = 2.0  # pixels
_PATH_COLOUR = (*drawing.shares(drawing.AGENT), 1.0)
_NO_GL = (
    "cannot draw: no OpenGL without a window ({why}). On Debian and Ubuntu: apt-get install libegl1"
    " libgl1; or set MUJOCO_GL to osmesa (libosmesa6), or to glfw where there is a display"
)


class View(NamedTuple):
    """Where the camera stands."""

    distance: float = 4.0
    """From what it looks at, in m."""
    elevation: float = -15.0
    """Degrees above the horizon are negative: it looks down."""
    azimuth: float = 90.0
    """Degrees; at 90 the x axis points to the right, and y away."""
    follow: bool = True
    """Whether it moves with the first body."""
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """What it looks at where it follows nothing, in m."""


class Marker(NamedTuple):
    """A sphere, or an arrow, that shows what the task hides. It takes part in nothing."""

    position: NDArray[np.float64]
    """[3] the sphere's centre, or where the arrow starts, in m."""
    arrow: NDArray[np.float64] | None = None
    """[3] from there to the arrow's tip, in m; a sphere without."""
    size: float = 0.05
    """Radius, in m."""
    colour: tuple[float, float, float, float] = (*drawing.shares(drawing.GOAL), 0.8)
    """Red, green, blue and opacity, from 0 to 1."""


class _Context(Protocol):
    """An OpenGL context of ``mujoco``'s."""

    def make_current(self) -> None: ...
    def free(self) -> None: ...


class _Canvas(NamedTuple):
    """What drawing takes: an OpenGL context, and what MuJoCo keeps in it."""

    context: _Context
    drawer: mujoco.MjrContext
    scene: mujoco.MjvScene


class Renderer:
    """Draws copies of one model. Owns an OpenGL context from the first picture on."""

    def __init__(self, view: View) -> None:
        self._view, self._options = view, mujoco.MjvOption()
        self._canvas: _Canvas | None = None

    def draw(
        self,
        physics: BatchPhysics,
        copy: int,
        markers: Sequence[Marker],
        path: Sequence[NDArray[np.float64]],
    ) -> NDArray[np.uint8]:
        """Return a picture of one copy as it is now, [height, width, 3] RGB.

        Its first body has come through the places ``path``, [3] in m; of many, some are left out.
        A camera that follows it shows no path.

        Raises:
            CannotDrawError: there is no OpenGL; the message says what to install.
        """
        if self._canvas is None:
            self._canvas = _new_canvas(physics)
        context, drawer, scene = self._canvas
        model, data = physics.copy_of(copy)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        camera = _camera(self._view)
        mujoco.mjv_updateScene(model, data, self._options, None, camera, everything, scene)
        for marker in markers:
            _add(scene, marker)
        way = [] if self._view.follow else [*path[:: 1 + len(path) // _PATH], data.xpos[1]]
        for start, end in itertools.pairwise(way):
            piece = Marker(start, end - start, size=_PATH_WIDTH, colour=_PATH_COLOUR)
            _add(scene, piece, mujoco.mjtGeom.mjGEOM_LINE)
        picture = np.empty((HEIGHT, WIDTH, 3), dtype=np.uint8)
        context.make_current()
        window = mujoco.MjrRect(0, 0, WIDTH, HEIGHT)
        mujoco.mjr_render(window, scene, drawer)
        mujoco.mjr_readPixels(picture, None, window, drawer)
        return np.flipud(picture).copy()  # OpenGL counts rows from below

    def close(self) -> None:
        """Free the context; the next picture takes another."""
        if self._canvas is not None:
            self._canvas.context.make_current()
            self._canvas.drawer.free()
            self._canvas.context.free()
            self._canvas = None


def _new_canvas(physics: BatchPhysics) -> _Canvas:
    # A model of its own: smaller shadows draw three times as fast without a graphics card.
    model, _ = physics.copy_of(0)
    model.vis.quality.shadowsize = _SHADOWS
    context = _new_context()
    try:
        context.make_current()
        drawer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
    except (mujoco.FatalError, RuntimeError) as error:
        context.free()
        raise CannotDrawError(_NO_GL.format(why=error)) from error
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, drawer)
    room = model.ngeom + model.nsite + _MARKERS + _PATH
    return _Canvas(context, drawer, mujoco.MjvScene(model, maxgeom=room))


def _add(
    scene: mujoco.MjvScene,
    marker: Marker,
    rod: mujoco.mjtGeom = mujoco.mjtGeom.mjGEOM_ARROW,
) -> None:
    """Add a marker; one with an ``arrow`` is a rod of that kind."""
    if scene.ngeom >= scene.maxgeom:
        raise ValueError(f"more than {_MARKERS} markers")
    geom = scene.geoms[scene.ngeom]
    kind = mujoco.mjtGeom.mjGEOM_SPHERE if marker.arrow is None else rod
    place, turn = np.asarray(marker.position, dtype=np.float64), np.eye(3).flatten()
    colour = np.array(marker.colour, dtype=np.float32)
    mujoco.mjv_initGeom(geom, kind.value, np.full(3, marker.size), place, turn, colour)
    if marker.arrow is not None:
        mujoco.mjv_connector(geom, kind.value, marker.size, place, place + marker.arrow)
    geom.category = mujoco.mjtCatBit.mjCAT_DECOR.value  # casts no shadow
    scene.ngeom += 1


def _camera(view: View) -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    if view.follow:
        camera.type, camera.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING.value, 1
    else:
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE.value
        camera.lookat[:] = view.centre
    camera.distance, camera.elevation = view.distance, view.elevation
    camera.azimuth = view.azimuth
    return camera


def _new_context() -> _Context:
    """Return a context of the kind that the user asked for, or that works here."""
    try:
        if platform.system() == "Linux" and not os.environ.get("MUJOCO_GL"):
            from mujoco.egl import GLContext  # noqa: PLC0415  only where it can be there
        else:
            from mujoco.gl_context import GLContext  # noqa: PLC0415  MUJOCO_GL may switch it off
        context: _Context = GLContext(WIDTH, HEIGHT)
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        raise CannotDrawError(_NO_GL.format(why=error)) from error
    return context
