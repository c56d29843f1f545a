"""Copies that blow up: reported in their own step, without a log file or a trace in others."""

import os
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from metarl.envs.physics import BatchPhysics
from tests.envs.cheetahs import SUBSTEPS, XML, batch, start


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
