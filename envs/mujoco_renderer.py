"""Pictures of MuJoCo copies, drawn without a window.

On Linux they are made through EGL, which needs neither a display nor a graphics card; the variable
``MUJOCO_GL`` (egl, osmesa, glfw), if set, is obeyed.
"""

import os
import platform
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import mujoco
import numpy as np
from numpy.typing import NDArray

from metarl.envs import drawing
from metarl.envs.physics import BatchPhysics

WIDTH, HEIGHT = 480, 360
_SHADOWS = 1024  # pixels along a side of the map of shadows
_MARKERS = 100  # room for this many beside the model's own shapes
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


Markers: TypeAlias = Callable[[NDArray[np.float64]], Sequence[Marker]]
"""From the position [3] of the first body to what is marked."""


class _Context(Protocol):
    """An OpenGL context of ``mujoco``'s."""

    def make_current(self) -> None: ...
    def free(self) -> None: ...


class Renderer:
    """Draws copies of one model. Owns an OpenGL context.

    Raises:
        RuntimeError: there is no OpenGL; the message says what to install.
    """

    def __init__(self, physics: BatchPhysics) -> None:
        # A model of its own: smaller shadows draw three times as fast without a graphics card.
        model, _ = physics.copy_of(0)
        model.vis.quality.shadowsize = _SHADOWS
        self._context = _new_context()
        try:
            self._context.make_current()
            self._drawer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        except (mujoco.FatalError, RuntimeError) as error:
            self._context.free()
            raise RuntimeError(_NO_GL.format(why=error)) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._drawer)
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + model.nsite + _MARKERS)
        self._options = mujoco.MjvOption()

    def draw(
        self, physics: BatchPhysics, copy: int, view: View, markers: Markers
    ) -> NDArray[np.uint8]:
        """Return a picture of one copy as it is now, [height, width, 3] RGB."""
        model, data = physics.copy_of(copy)
        mujoco.mjv_updateScene(
            model,
            data,
            self._options,
            None,
            _camera(view),
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        for marker in markers(data.xpos[1]):
            self._add(marker)
        picture = np.empty((HEIGHT, WIDTH, 3), dtype=np.uint8)
        self._context.make_current()
        window = mujoco.MjrRect(0, 0, WIDTH, HEIGHT)
        mujoco.mjr_render(window, self._scene, self._drawer)
        mujoco.mjr_readPixels(picture, None, window, self._drawer)
        return np.flipud(picture).copy()  # OpenGL counts rows from below

    def close(self) -> None:
        """Free the context. Nothing can be drawn after that."""
        self._context.make_current()
        self._drawer.free()
        self._context.free()

    def _add(self, marker: Marker) -> None:
        scene = self._scene
        if scene.ngeom >= scene.maxgeom:
            raise ValueError(f"more than {_MARKERS} markers")
        geom, kind = scene.geoms[scene.ngeom], mujoco.mjtGeom.mjGEOM_SPHERE
        if marker.arrow is not None:
            kind = mujoco.mjtGeom.mjGEOM_ARROW
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
        raise RuntimeError(_NO_GL.format(why=error)) from error
    return context
