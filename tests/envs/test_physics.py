"""Batch physics against MuJoCo itself, one copy at a time; steps under way; outputs."""

import os
import signal

import mujoco
import numpy as np
import pytest

from metarl.envs.physics import BatchPhysics, default_threads
from tests.envs.cheetahs import SUBSTEPS, XML, batch, controls, run, run_alone, start


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
