"""Presets of ProMP: its own half-cheetahs, and MAML's navigation."""

from collections.abc import Callable, Sequence

from metarl import envs
from metarl.agents.promp import PrompConfig
from metarl.experiments.experiment import Experiment
from metarl.experiments.presets.maml import MAML_NET, PROMP_NET


def promp_navigation() -> Experiment:
    """ProMP on 2-D navigation; no published setting, the task and its sizes are MAML's.

    Net, inner step, meta-batch and iterations are those of maml-trpo/navigation, the outer loop is
    ProMP's: 5 steps of Adam at 1e-3, clip 0.3, eta 5e-4.
    """
    return Experiment(
        preset="promp/navigation",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=PrompConfig(later_lr_scale=0.5, policy=MAML_NET),
        iterations=100,
        tasks_per_update=20,
    )


def promp_half_cheetah_dir() -> Experiment:
    """ProMP on half-cheetah direction (Rothfuss et al. 2019), as in its released code.

    40 tasks, 20 episodes of 100 steps, net 64-64 tanh, one inner step of 0.1, 5 steps of Adam at
    1e-3, clip 0.3, eta 5e-4 and fixed. 300 iterations instead of 1001.
    """
    return Experiment(
        preset="promp/half-cheetah-dir",
        env=envs.preset("metarl/HalfCheetahDir-v0"),
        agent=PrompConfig(policy=PROMP_NET),
    )


def promp_half_cheetah_vel() -> Experiment:
    """ProMP on half-cheetah velocity, with the settings of its half-cheetah direction."""
    return Experiment(
        preset="promp/half-cheetah-vel",
        env=envs.preset("metarl/HalfCheetahVel-v0"),
        agent=PrompConfig(policy=PROMP_NET),
    )


PROMP: Sequence[Callable[[], Experiment]] = (
    promp_navigation,
    promp_half_cheetah_dir,
    promp_half_cheetah_vel,
)
