"""Presets of Reptile, which has no published settings here: its tasks are MAML's.

What the paper says of its own tasks, image classification, and what we take of it: Adam inside with
beta1 = 0 (``@adam``), plain interpolation outside whose step goes linearly to 0 (``@serial``).
"""

from collections.abc import Callable, Sequence

from metarl import envs
from metarl.agents.reptile import ReptileConfig
from metarl.experiments.experiment import Experiment
from metarl.experiments.presets.maml import BANDIT_NET, MAML_NET, PROMP_NET


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


def reptile_navigation_serial() -> Experiment:
    """Serial Reptile on 2-D navigation: algorithm 1, one task for each outer step.

    As many tasks in all as the batched preset. epsilon goes linearly to 0 over all of them, as in
    the paper's experiments; its first value is ours, as one task's step is noisy.
    """
    return Experiment(
        preset="reptile/navigation@serial",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=ReptileConfig(outer_lr=0.1, anneal_over=2000, policy=MAML_NET),
        iterations=2000,
        tasks_per_update=1,
        adaptations=2,
        checkpoint_every=200,
        evaluate_every=500,
    )


def reptile_navigation_adam() -> Experiment:
    """Reptile on 2-D navigation with Adam inside, beta1 = 0 as in the paper.

    Its step size is ours: the paper's 1e-3 is for tens of steps on a task, and there are three.
    """
    return Experiment(
        preset="reptile/navigation@adam",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=ReptileConfig(
            inner_optimizer="adam",
            inner_lr=5e-3,
            outer_optimizer="adam",
            outer_lr=1e-2,
            policy=MAML_NET,
        ),
        iterations=100,
        tasks_per_update=20,
        adaptations=2,
    )


def reptile_navigation_ppo() -> Experiment:
    """Reptile on 2-D navigation with PPO inside: five clipped steps on each round; all ours.

    With PPO's usual clip of 0.2 adaptation was held back: tasks here want large steps.
    """
    return Experiment(
        preset="reptile/navigation@ppo",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=ReptileConfig(
            inner_learner="ppo",
            inner_epochs=5,
            inner_clip=0.5,
            outer_optimizer="adam",
            outer_lr=1e-2,
            policy=MAML_NET,
        ),
        iterations=100,
        tasks_per_update=20,
        adaptations=2,
    )


def reptile_half_cheetah_dir() -> Experiment:
    """Reptile on half-cheetah direction; no published setting, the task is ProMP's.

    The step size goes linearly to 0 as in the paper's experiments.
    """
    return Experiment(
        preset="reptile/half-cheetah-dir",
        env=envs.preset("metarl/HalfCheetahDir-v0"),
        agent=ReptileConfig(
            outer_optimizer="adam", outer_lr=1e-2, anneal_over=100, policy=PROMP_NET
        ),
        iterations=100,
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
    reptile_navigation_serial,
    reptile_navigation_adam,
    reptile_navigation_ppo,
    reptile_half_cheetah_dir,
    reptile_half_cheetah_vel,
)
