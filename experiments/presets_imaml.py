"""Presets of iMAML, which has no published settings here: its tasks are MAML's and ProMP's."""

from collections.abc import Callable, Sequence

from metarl import envs
from metarl.agents.imaml import ImamlConfig
from metarl.experiments.experiment import Experiment
from metarl.experiments.presets_maml import MAML_NET, PROMP_NET


def imaml_navigation() -> Experiment:
    """iMAML on 2-D navigation; no published setting.

    Task, net, meta-batch and rollouts of MAML's gradient setting (Finn et al. 2017, section 5.3).
    """
    return Experiment(
        preset="imaml/navigation",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=ImamlConfig(policy=MAML_NET),
        iterations=100,
        tasks_per_update=20,
    )


def imaml_half_cheetah_dir() -> Experiment:
    """iMAML on half-cheetah direction; no published setting.

    Task, net, meta-batch and rollouts of Rothfuss et al. 2019 (ProMP), 300 iterations.
    """
    return Experiment(
        preset="imaml/half-cheetah-dir",
        env=envs.preset("metarl/HalfCheetahDir-v0"),
        agent=ImamlConfig(policy=PROMP_NET),
    )


IMAML: Sequence[Callable[[], Experiment]] = (imaml_navigation, imaml_half_cheetah_dir)
