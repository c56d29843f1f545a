"""Batch physics against MuJoCo itself, one copy at a time; faults; model fields of each copy."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from metarl.envs.physics import BatchPhysics, default_threads, load_asset

XML = load_asset("half_cheetah.xml")
SUBSTEPS = 5
Array = NDArray[np.float64]


def start(num_copies: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.1, 0.1, (num_copies, 9)), 0.1 * rng.standard_normal((num_copies, 9))


def controls(num_steps: int, num_copies: int) -> Array:
    return np.random.default_rng(1).uniform(-1, 1, (num_steps, num_copies, 6))


def batch(num_copies: int, threads: int = 1) -> BatchPhysics:
    physics = BatchPhysics(XML, num_copies, SUBSTEPS, threads)
    physics.reset(*start(num_copies))
    return physics


def run(physics: BatchPhysics, num_steps: int) -> Array:
    """States [T, N, nq + nv] under random controls."""
    states = []
    for ctrl in controls(num_steps, physics.num_copies):
        physics.ctrl[:] = ctrl
        assert not physics.step().any()
        states.append(np.concatenate((physics.qpos, physics.qvel), 1))
    return np.stack(states)


def run_alone(model: mujoco.MjModel, copy: int, num_copies: int, num_steps: int) -> Array:
    """The states [T, nq + nv] of one of those copies, by ``mj_step``."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = (x[copy] for x in start(num_copies))
    mujoco.mj_forward(model, data)
    states = []
    for ctrl in controls(num_steps, num_copies)[:, copy]:
        data.ctrl[:] = ctrl
        for _ in range(SUBSTEPS):
            mujoco.mj_step(model, data)
        states.append(np.concatenate((data.qpos, data.qvel)))
    return np.stack(states)


def test_all_copies_at_once_are_one_copy_at_a_time() -> None:
    together = run(batch(4), 100)
    model = mujoco.MjModel.from_xml_string(XML)
    alone = np.stack([run_alone(model, copy, 4, 100) for copy in range(4)], 1)
    assert np.abs(together[-1] - together[0]).max() > 0.1
    np.testing.assert_array_equal(together, alone)


def test_a_second_round_starts_afresh() -> None:
    physics = batch(3)
    first = run(physics, 10)
    physics.reset(*start(3))
    assert not physics.ctrl.any()
    np.testing.assert_array_equal(run(physics, 10), first)


def test_a_step_that_nobody_waited_for_does_not_reach_the_next_round() -> None:
    physics = batch(3)
    first = run(physics, 10)
    physics.start_step()
    physics.reset(*start(3))
    np.testing.assert_array_equal(run(physics, 10), first)


def test_a_step_is_waited_for_once_and_is_alone() -> None:
    physics = batch(3)
    with pytest.raises(RuntimeError, match="start_step"):
        physics.finish_step()
    physics.start_step()
    for again in (physics.start_step, physics.step):
        with pytest.raises(RuntimeError, match="under way"):
            again()
    physics.finish_step()
    with pytest.raises(RuntimeError, match="start_step"):
        physics.finish_step()


def test_an_interrupted_wait_leaves_the_step_to_the_next_reset() -> None:
    physics = BatchPhysics(XML, 400, 200, 1)
    physics.reset(*start(400))
    expected = run(physics, 1)
    physics.reset(*start(400))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        physics.start_step()
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(KeyboardInterrupt):
            physics.finish_step()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)
    physics.reset(*start(400))
    np.testing.assert_array_equal(run(physics, 1), expected)


def test_threads_change_nothing() -> None:
    np.testing.assert_array_equal(run(batch(5, 1), 30), run(batch(5, 2), 30))


def test_a_step_is_dt_seconds_and_the_views_are_live() -> None:
    physics = batch(2)
    assert physics.dt == pytest.approx(0.05)
    assert (physics.qpos.shape, physics.qvel.shape, physics.ctrl.shape) == ((2, 9), (2, 9), (2, 6))
    assert {view.dtype for view in (physics.qpos, physics.qvel, physics.ctrl)} == {np.dtype(float)}
    view, before = physics.qpos, physics.qpos.copy()
    physics.qvel[:, 0] = 2.0
    physics.step()
    assert view is physics.qpos
    assert (view[:, 0] - before[:, 0] > 0.05).all()


@pytest.mark.parametrize("ids", [[0], [1, 3], [0, 2, 3], []])
def test_the_copies_left_out_stay_as_they_are(ids: list[int]) -> None:
    some, everyone = batch(4), batch(4)
    for physics in (some, everyone):
        physics.ctrl[:] = controls(1, 4)[0]
    qpos, qvel = some.qpos.copy(), some.qvel.copy()
    assert some.step(np.array(ids, dtype=np.int64)).tolist() == [False] * 4
    everyone.step()
    rest = np.setdiff1d(np.arange(4), ids)
    np.testing.assert_array_equal(some.qpos[rest], qpos[rest])
    np.testing.assert_array_equal(some.qvel[rest], qvel[rest])
    np.testing.assert_array_equal(some.qpos[ids], everyone.qpos[ids])
    np.testing.assert_array_equal(some.qvel[ids], everyone.qvel[ids])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("field", "value"),
    [("qpos", 1e20), ("qpos", np.nan), ("qvel", 1e20), ("qvel", np.inf), ("ctrl", np.nan)],
)
def test_a_blown_up_copy_is_reported_in_its_own_step(
    field: str, value: float, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    physics, healthy = batch(4, threads), batch(4)
    for _ in range(2):
        assert not physics.step().any()
        healthy.step()
    getattr(physics, field)[2] = value
    assert physics.step().tolist() == [False, False, True, False]
    healthy.step()
    physics.ctrl[2] = 0
    assert not physics.step().any()
    healthy.step()
    others = [0, 1, 3]
    np.testing.assert_array_equal(physics.qpos[others], healthy.qpos[others])
    assert np.isfinite(physics.qpos).all()
    physics.reset(*start(4))
    getattr(physics, field)[1] = value
    assert physics.step().tolist() == [False, True, False, False]
    assert os.listdir(tmp_path) == []


def test_a_blown_up_copy_that_is_not_stepped_is_not_reported() -> None:
    physics = batch(3)
    physics.qvel[1] = 1e20
    assert physics.step(np.array([0, 2])).tolist() == [False] * 3
    assert physics.step(np.array([1])).tolist() == [False, True, False]


def test_a_copy_that_blows_up_again_is_reported_again() -> None:
    physics = batch(2)
    reports = []
    for _ in range(2):
        physics.qvel[1] = 1e20
        reports.append(physics.step().tolist())
    assert reports == [[False, True]] * 2


def test_a_start_that_is_not_finite_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    physics = BatchPhysics(XML, 2, SUBSTEPS, 1)
    qpos, qvel = start(2)
    qpos[1] = np.nan
    with pytest.raises(ValueError, match="start of copy 1 is not finite"):
        physics.reset(qpos, qvel)
    assert os.listdir(tmp_path) == []


BLOW_UP = """
import mujoco, numpy as np, sys
from metarl.envs.physics import BatchPhysics, load_asset
xml = load_asset("half_cheetah.xml")
physics = BatchPhysics(xml, 2, 5, 2)
physics.reset(np.zeros((2, 9)), np.zeros((2, 9)))
physics.qvel[0] = 1e20
assert physics.step().tolist() == [True, False]
if "loud" in sys.argv:
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    data.qvel[0] = 1e20
    mujoco.mj_step(model, data)
"""


def test_no_log_file_in_the_users_folder(tmp_path: Path) -> None:
    for mode, files in (("quiet", []), ("loud", ["MUJOCO_LOG.TXT"])):
        subprocess.run([sys.executable, "-c", BLOW_UP, mode], cwd=tmp_path, check=True, timeout=60)
        assert os.listdir(tmp_path) == files


def test_the_users_own_warning_callback_comes_back() -> None:
    heard: list[str] = []
    previous = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(heard.append)
    try:
        mine = mujoco.get_mju_user_warning()
        physics = batch(2)
        physics.qvel[0] = 1e20
        assert physics.step()[0]
        assert mujoco.get_mju_user_warning() is mine
        assert heard == []
        with pytest.raises((IndexError, ValueError)):
            physics.step(np.array([7]))
        assert mujoco.get_mju_user_warning() is mine
    finally:
        mujoco.set_mju_user_warning(previous)


def test_every_copy_can_have_masses_of_its_own() -> None:
    physics = BatchPhysics(XML, 3, SUBSTEPS, 1)
    masses = physics.expand("body_mass")
    nominal = mujoco.MjModel.from_xml_string(XML).body_mass.copy()
    assert masses.shape == (3, physics.model.nbody)
    np.testing.assert_array_equal(masses, np.stack([nominal] * 3))
    masses[1] *= 1.5
    np.testing.assert_array_equal(masses[0], nominal)
    np.testing.assert_array_equal(physics.model.body_mass, nominal)


def test_nominal_masses_are_the_nominal_model() -> None:
    physics = BatchPhysics(XML, 3, SUBSTEPS, 1)
    physics.expand("body_mass")
    physics.set_constants()
    physics.reset(*start(3))
    np.testing.assert_array_equal(run(physics, 30), run(batch(3), 30))


def test_other_masses_move_as_in_a_model_of_their_own() -> None:
    physics = BatchPhysics(XML, 3, SUBSTEPS, 1)
    masses = physics.expand("body_mass")
    factors = (1.0, 1.5, 0.5)
    masses *= np.array(factors)[:, None]
    physics.set_constants()
    physics.reset(*start(3))
    together, nominal = run(physics, 10), run(batch(3), 10)
    np.testing.assert_array_equal(together[:, 0], nominal[:, 0])
    for copy in (1, 2):
        assert np.abs(together[-1, copy] - nominal[-1, copy]).max() > 1e-2
        model = mujoco.MjModel.from_xml_string(XML)
        model.body_mass *= factors[copy]
        mujoco.mj_setConst(model, mujoco.MjData(model))
        np.testing.assert_allclose(
            together[:, copy], run_alone(model, copy, 3, 10), rtol=0, atol=1e-12
        )


def test_masses_survive_a_reset_and_do_not_compound() -> None:
    physics = BatchPhysics(XML, 2, SUBSTEPS, 1)
    nominal = physics.model.body_mass.copy()
    for factor in (1.3, 0.7, 1.0):
        physics.expand("body_mass")[:] = factor * nominal
        physics.set_constants()
        physics.reset(*start(2))
        np.testing.assert_array_equal(physics.expand("body_mass")[0], factor * nominal)
    np.testing.assert_array_equal(run(physics, 10), run(batch(2), 10))


def test_default_threads_are_the_cores_of_this_process() -> None:
    assert 1 <= default_threads() <= (os.cpu_count() or 1)


def test_outputs_are_those_of_every_state_from_the_first_on() -> None:
    model = mujoco.MjModel.from_xml_string(XML)
    physics = BatchPhysics(XML, 3, SUBSTEPS, 1, outputs=("xipos", "cvel"))
    physics.reset(*start(3))
    others = [mujoco.MjData(model) for _ in range(3)]
    for copy, data in enumerate(others):
        data.qpos[:], data.qvel[:] = physics.qpos[copy], physics.qvel[copy]
        mujoco.mj_forward(model, data)
    for ctrl in controls(5, 3):
        for copy, data in enumerate(others):
            np.testing.assert_allclose(physics.output("xipos")[copy], data.xipos, atol=1e-12)
            np.testing.assert_allclose(physics.output("cvel")[copy], data.cvel, atol=1e-12)
            data.ctrl[:] = ctrl[copy]
            mujoco.mj_step(model, data, SUBSTEPS)
        physics.ctrl[:] = ctrl
        physics.step()


def test_an_output_that_was_not_named_is_refused() -> None:
    """It would say zero until the next call of MuJoCo."""
    physics = BatchPhysics(XML, 1, SUBSTEPS, 1, outputs=("xipos",))
    with pytest.raises(ValueError, match=r"no 'xpos'; did you mean 'xipos'\?"):
        physics.output("xpos")
