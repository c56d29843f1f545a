"""Presets of Reptile, which has no published settings here: its tasks are MAML's."""

from collections.abc import Callable, Sequence

from metarl import envs
from metarl.agents.reptile import ReptileConfig
from metarl.experiments.experiment import Experiment
from metarl.experiments.presets_maml import BANDIT_NET, MAML_NET, PROMP_NET


def reptile_bandit() -> Experiment:
    """Reptile on Bernoulli bandits, k = 5, n = 10; no published setting, the task is MAML's."""
    return Experiment(
        preset="reptile/bandit",
        env=envs.preset("metarl/BernoulliBandit-v0"),
        agent=ReptileConfig(inner_lr=0.5, discount=0.95, policy=BANDIT_NET),
        iterations=200,
        tasks_per_update=200,
        episodes=10,
    )


def reptile_tabular_mdp() -> Experiment:
    """Reptile on random MDPs; no published setting, the task is MAML's."""
    return Experiment(
        preset="reptile/tabular-mdp",
        env=envs.preset("metarl/TabularMDP-v0"),
        agent=ReptileConfig(inner_lr=0.5, discount=0.95, policy=BANDIT_NET),
        iterations=500,
        tasks_per_update=20,
        episodes=10,
    )


def reptile_navigation() -> Experiment:
    """Reptile on 2-D navigation; no published setting, the task is MAML's."""
    return Experiment(
        preset="reptile/navigation",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=ReptileConfig(outer_optimizer="adam", outer_lr=1e-2, policy=MAML_NET),
        iterations=100,
        tasks_per_update=20,
        adaptations=2,
    )


def reptile_half_cheetah_dir() -> Experiment:
    """Reptile on half-cheetah direction; no published setting, the task is ProMP's."""
    return Experiment(
        preset="reptile/half-cheetah-dir",
        env=envs.preset("metarl/HalfCheetahDir-v0"),
        agent=ReptileConfig(outer_optimizer="adam", outer_lr=1e-2, policy=PROMP_NET),
        adaptations=2,
    )


def reptile_half_cheetah_vel() -> Experiment:
    """Reptile on half-cheetah velocity; no published setting, the task is ProMP's."""
    return Experiment(
        preset="reptile/half-cheetah-vel",
        env=envs.preset("metarl/HalfCheetahVel-v0"),
        agent=ReptileConfig(outer_optimizer="adam", outer_lr=1e-2, policy=PROMP_NET),
        adaptations=2,
    )


REPTILE: Sequence[Callable[[], Experiment]] = (
    reptile_bandit,
    reptile_tabular_mdp,
    reptile_navigation,
    reptile_half_cheetah_dir,
    reptile_half_cheetah_vel,
)
