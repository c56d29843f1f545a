"""Many copies of one MuJoCo model, stepped on C++ threads. The only file that touches mujoco."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from importlib import resources
from pathlib import Path

import mujoco
import mujoco.batch
import numpy as np
from numpy.typing import NDArray

from metarl.checks import InputError, unknown
from metarl.envs.model_fields import rows_of

# A copy that trips one of these MuJoCo resets, or steps without its control where that is not
# finite, silently but for a counter.
_FAULTS = [
    int(warning)
    for warning in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
        mujoco.mjtWarning.mjWARN_BADCTRL,
    )
]


class _Silence:
    """Keeps MuJoCo from writing MUJOCO_LOG.TXT into the working directory: we read its counters.

    The handler is the process's; it is put back when the last thread of those inside leaves.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._previous: Callable[[str], None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._previous = mujoco.get_mju_user_warning()
                mujoco.set_mju_user_warning(lambda _message: None)
            self._inside += 1

    def __exit__(self, *_exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                mujoco.set_mju_user_warning(self._previous)


_quiet = _Silence()


def load_asset(name: str) -> str:
    """Return the text of an XML file that comes with the package."""
    return resources.files("metarl.envs").joinpath("assets", name).read_text(encoding="utf-8")


def _compile(xml: str | Path) -> mujoco.MjModel:
    try:
        with _quiet:
            if isinstance(xml, Path):
                return mujoco.MjModel.from_xml_path(str(xml))
            return mujoco.MjModel.from_xml_string(xml)
    except ValueError as error:
        source = xml if isinstance(xml, Path) else "MJCF"
        raise InputError(f"{source}: {line}" for line in str(error).splitlines() if line) from None


class BatchPhysics:
    """N copies of a model. Owns the threads and the state of the copies.

    ``qpos`` [N, nq], ``qvel`` [N, nv] and ``ctrl`` [N, nu] are live float64 views: reading sees the
    current state, writing sets it. Results do not depend on the number of threads.

    ``outputs`` names the derived fields of ``mjData`` that ``output`` is asked for: they are copied
    out in every call, and one that is named later would start as zeros.
    """

    def __init__(
        self,
        xml: str | Path,
        num_copies: int,
        substeps: int,
        threads: int,
        outputs: Sequence[str] = (),
    ) -> None:
        """Compile MJCF, as text or in a file, whose meshes and includes are looked for beside it.

        Raises:
            ValueError: MuJoCo cannot compile it, and the message holds the file's name and why; or
                there is no such output.
        """
        self.model = _compile(xml)
        self.num_copies = num_copies
        self.substeps = substeps
        self.dt = substeps * self.model.opt.timestep
        """Seconds of one ``step``."""
        self._batch = mujoco.batch.Batch(self.model, num_copies, threads)
        # It only waits inside MuJoCo, which lets go of Python's lock.
        self._caller = ThreadPoolExecutor(1, thread_name_prefix="physics")
        self._under_way: Future[None] | None = None
        self.qpos: NDArray[np.float64] = self._batch.bind("qpos")
        self.qvel: NDArray[np.float64] = self._batch.bind("qvel")
        self.ctrl: NDArray[np.float64] = self._batch.bind("ctrl")
        self._outputs = {field: self._bound(field) for field in outputs}

    @property
    def control_range(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest control of each motor, [nu] each.

        Raises:
            ValueError: a motor has no range, so that no share of it can be asked for.
        """
        free = np.flatnonzero(self.model.actuator_ctrllimited == 0)
        if len(free):
            raise InputError([f"motor {self.model.actuator(int(free[0])).name!r} has no ctrlrange"])
        low, high = self.model.actuator_ctrlrange.T
        return low, high

    def output(self, field: str) -> NDArray[np.float64]:
        """Return a derived field of ``mjData`` for every copy, [N, ...]; it is kept up to date.

        After a step it says what MuJoCo last computed within it, just before the end.

        Raises:
            ValueError: it is not among the outputs that were named at first.
        """
        if field not in self._outputs:
            text = unknown("output", field, self._outputs)
            raise InputError([f"{text}; what is to be read must be named in outputs"])
        return self._outputs[field]

    def _bound(self, field: str) -> NDArray[np.float64]:
        if field not in mujoco.batch.DATA_FIELDS:
            raise InputError([unknown("output", field, sorted(mujoco.batch.DATA_FIELDS))])
        try:
            values: NDArray[np.float64] = self._batch.bind(field)
        except ValueError as error:
            raise InputError([f"output {field!r}: {error}"]) from None
        return values

    def reset(
        self,
        qpos: NDArray[np.float64],
        qvel: NDArray[np.float64],
        copies: NDArray[np.int64] | None = None,
    ) -> None:
        """Start all copies, or the given ones, from their rows of the state [N, nq], [N, nv].

        Raises:
            ValueError: the state is not finite; MuJoCo would start elsewhere without a word.
        """
        finite = np.isfinite(qpos).all(1) & np.isfinite(qvel).all(1)
        if not finite.all():
            raise ValueError(f"start of copy {np.argmin(finite)} is not finite")
        self._wait()  # for a step that an interrupted caller left behind, whatever came of it
        rows = slice(None) if copies is None else copies
        with _quiet:
            self._batch.reset(copies, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
            self.qpos[rows], self.qvel[rows] = qpos[rows], qvel[rows]
            self._batch.forward(copies)

    def step(self, copies: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        """Advance the given copies (ascending), or all, by ``substeps`` under ``ctrl``.

        Returns:
            [N] bool: copies whose state or control was not finite in this step. MuJoCo has reset
            them, or ignored the control: their state has nothing to do with what they did.
        """
        self.refuse_two_steps()
        self._advance(copies)
        return self._faulty()

    def start_step(self, copies: NDArray[np.int64] | None = None) -> None:
        """Begin ``step`` on a thread of its own; until it is finished, the state is that thread's.

        Handing over takes about 0.1 ms: it pays where the caller has something else to do.

        Raises:
            RuntimeError: a step is under way.
        """
        self.refuse_two_steps()
        self._under_way = self._caller.submit(self._advance, copies)

    def finish_step(self) -> NDArray[np.bool_]:
        """Wait for the step that was begun, and return what ``step`` does.

        Raises:
            RuntimeError: no step was begun.
        """
        step = self._wait()
        if step is None:
            raise RuntimeError("finish_step without start_step")
        step.result()
        return self._faulty()

    def _advance(self, copies: NDArray[np.int64] | None) -> None:
        # MuJoCo's reset of a failed copy sets its counters back: they count from each step anew.
        self._batch.warning[:] = 0
        with _quiet:
            self._batch.step(copies, nstep=self.substeps)

    def _faulty(self) -> NDArray[np.bool_]:
        faulty: NDArray[np.bool_] = self._batch.warning[:, _FAULTS, 1].any(1)
        return faulty

    def refuse_two_steps(self) -> None:
        """Raise RuntimeError while a step is under way: the state is not the caller's then."""
        if self._under_way is not None:
            raise RuntimeError("a step is under way: finish_step comes first")

    def _wait(self) -> Future[None] | None:
        """Wait for a step under way; return it, finished."""
        step = self._under_way
        if step is not None:
            wait([step])  # an interruption here leaves the step known
            self._under_way = None
        return step

    def expand(self, field: str) -> NDArray[np.float64]:
        """Give every copy its own values of a model field; return them, live, as [N, ...]."""
        values: NDArray[np.float64] = self._batch.expand(field)
        return values

    def nominal(self, field: str) -> NDArray[np.float64]:
        """Return a model field as the XML has it; what ``expand`` gave out does not reach it."""
        values: NDArray[np.float64] = getattr(self.model, field).copy()
        return values

    def scale(
        self,
        field: str,
        rows: NDArray[np.int64] | slice,
        factor: NDArray[np.float64],
    ) -> None:
        """Write each copy's own multiples of what the XML has, whatever it had before.

        ``factor`` has one row per copy; its further axes go with those of the field's rows.
        """
        self.expand(field)[:, rows] = self.nominal(field)[rows] * factor

    def rows_of(self, field: str, element: str) -> NDArray[np.int64]:
        """Return which rows of a model field are those of a body, joint, ... of that name.

        Raises:
            ValueError: there is no such field of numbers, or no such element; the message holds the
                nearest name.
        """
        return rows_of(self.model, field, element)

    def copy_of(self, copy: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """Return one copy's own model and state, for drawing; nothing done to them reaches it."""
        self.refuse_two_steps()
        model, data = self._batch.get_model(copy), self._batch.get_data(copy)
        with _quiet:
            mujoco.mj_forward(model, data)
        return model, data

    def place_of(self, copy: int) -> NDArray[np.float64]:
        """Return where the first body of a copy is, [3] in m."""
        _, data = self.copy_of(copy)
        place: NDArray[np.float64] = data.xpos[1].copy()
        return place

    def set_constants(self) -> None:
        """Recompute what the model derives from its fields, after writing to expanded ones."""
        with _quiet:
            self._batch.set_const()


def default_threads() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
