"""Presets of E-MAML. Krazy World and the mazes of its paper are not here."""

from collections.abc import Callable, Sequence

from metarl import envs
from metarl.agents.emaml import EmamlConfig
from metarl.experiments.experiment import Experiment
from metarl.experiments.presets.maml import MAML_NET, PROMP_NET


def emaml_navigation() -> Experiment:
    """E-MAML on 2-D navigation; no published setting, all but the credit is maml-trpo's.

    The weight of the credit is ours: with 1, as in the paper's formula, its noise drowned the rest.
    """
    return Experiment(
        preset="emaml/navigation",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=EmamlConfig(later_lr_scale=0.5, credit_weight=0.01, policy=MAML_NET),
        iterations=100,
        tasks_per_update=20,
    )


def emaml_half_cheetah_dir() -> Experiment:
    """E-MAML on half-cheetah direction with the settings of Rothfuss et al. 2019 (ProMP).

    As its released code runs E-MAML, but for 300 iterations instead of 1001, and for the credit:
    that code takes a mean over steps where the paper's formula has a sum, and returns of another
    unit. The weight is that of emaml/navigation.
    """
    return Experiment(
        preset="emaml/half-cheetah-dir",
        env=envs.preset("metarl/HalfCheetahDir-v0"),
        agent=EmamlConfig(credit_weight=0.01, policy=PROMP_NET),
    )


EMAML: Sequence[Callable[[], Experiment]] = (emaml_navigation, emaml_half_cheetah_dir)
