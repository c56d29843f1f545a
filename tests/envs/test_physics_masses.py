"""Masses of each copy's own, against models compiled with them."""

import mujoco
import numpy as np

from metarl.envs.physics import BatchPhysics
from tests.envs.cheetahs import SUBSTEPS, XML, batch, run, run_alone, start


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
