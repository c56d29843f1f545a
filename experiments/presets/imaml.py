"""Presets of iMAML, which has no published settings here: its tasks are MAML's and ProMP's."""

from collections.abc import Callable, Sequence

from metarl import envs
from metarl.agents.imaml import ImamlConfig, ImamlTrpoConfig
from metarl.experiments.experiment import Experiment
from metarl.experiments.presets.maml import MAML_NET, PROMP_NET
from metarl.trust_region import TrustRegionConfig

_A_QUARTER = TrustRegionConfig(curvature_fraction=0.25)


def imaml_navigation() -> Experiment:
    """iMAML on 2-D navigation; no published setting.

    Task, net, meta-batch, rollouts and the 100 iterations are those of ``maml-trpo/navigation``
    (Finn et al. 2017). lambda 10 is one over MAML's inner step: while curvature is small, both
    adapt equally far. Damping 10 in the Jacobian, outer step size 1e-2 and 5 iterations of
    conjugate gradient as in iMAML's released code; there lambda is 2 or 1, on images.
    """
    return Experiment(
        preset="imaml/navigation",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=ImamlConfig(cg_damping=10.0, policy=MAML_NET),
        iterations=100,
        tasks_per_update=20,
    )


def imaml_half_cheetah_dir() -> Experiment:
    """iMAML on half-cheetah direction; no published setting.

    Task, net, 40 tasks and 20 rollouts of Rothfuss et al. 2019 (ProMP), 300 iterations as in
    ``maml-trpo/half-cheetah-dir``. iMAML's own settings are those of ``imaml/navigation``.
    """
    return Experiment(
        preset="imaml/half-cheetah-dir",
        env=envs.preset("metarl/HalfCheetahDir-v0"),
        agent=ImamlConfig(cg_damping=10.0, policy=PROMP_NET),
    )


def imaml_trpo_navigation() -> Experiment:
    """iMAML with a TRPO outer step on 2-D navigation; no published setting.

    As ``imaml/navigation``, but with the trust region of ``maml-trpo/navigation``, and without
    damping: the line search refuses what an inaccurate Jacobian leads to. A quarter of the tasks
    gives the curvature, of which each product asks for two solutions by conjugate gradient.
    """
    return Experiment(
        preset="imaml-trpo/navigation",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=ImamlTrpoConfig(policy=MAML_NET, trust_region=_A_QUARTER),
        iterations=100,
        tasks_per_update=20,
    )


def imaml_trpo_half_cheetah_dir() -> Experiment:
    """iMAML with a TRPO outer step on half-cheetah direction; no published setting.

    As ``imaml/half-cheetah-dir``, but with the trust region of ``maml-trpo/half-cheetah-dir``,
    without damping, and with a quarter of the tasks for the curvature.
    """
    return Experiment(
        preset="imaml-trpo/half-cheetah-dir",
        env=envs.preset("metarl/HalfCheetahDir-v0"),
        agent=ImamlTrpoConfig(policy=PROMP_NET, trust_region=_A_QUARTER),
    )


IMAML: Sequence[Callable[[], Experiment]] = (
    imaml_navigation,
    imaml_half_cheetah_dir,
    imaml_trpo_navigation,
    imaml_trpo_half_cheetah_dir,
)
