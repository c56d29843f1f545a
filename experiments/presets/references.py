"""Presets of the references that are trained: average, pretrained, and told the task.

Each spends per meta-iteration the environment steps of MAML-TRPO's preset on the same tasks: one
round of twice as many tasks instead of two rounds. Nets, discount and trust region are MAML's too.
"""

from collections.abc import Callable, Sequence

from metarl import envs
from metarl.agents.multi_task import AverageConfig, PretrainedConfig
from metarl.experiments.experiment import Experiment
from metarl.experiments.presets.maml import MAML_NET, PROMP_NET


def average_navigation() -> Experiment:
    """One policy for all goals of 2-D navigation, which never adapts.

    Settings of ``maml-trpo/navigation`` (Finn et al. 2017): net 100-100 ReLU, 100 iterations, 20
    episodes. 40 tasks instead of 20, since there is one round instead of two.
    """
    return Experiment(
        preset="average/navigation",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=AverageConfig(policy=MAML_NET),
        iterations=100,
        tasks_per_update=40,
        adaptations=0,
    )


def average_half_cheetah_dir() -> Experiment:
    """One policy for both directions of half-cheetah, which never adapts.

    Settings of ``maml-trpo/half-cheetah-dir`` (Rothfuss et al. 2019): net 64-64 tanh, 20 episodes,
    300 iterations. 80 tasks instead of 40, since there is one round instead of two.
    """
    return Experiment(
        preset="average/half-cheetah-dir",
        env=envs.preset("metarl/HalfCheetahDir-v0"),
        agent=AverageConfig(policy=PROMP_NET),
        tasks_per_update=80,
        adaptations=0,
    )


def pretrained_navigation() -> Experiment:
    """One policy trained on all goals of 2-D navigation, and fine-tuned at test.

    Training is that of ``average/navigation``; fine-tuning has MAML's step sizes at test, 0.1 and
    then 0.05 (Finn et al. 2017, appendix A.2). The paper tuned the step sizes of its pretrained
    baseline by hand, to values that it does not print.
    """
    return Experiment(
        preset="pretrained/navigation",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=PretrainedConfig(inner_lr=0.1, later_lr_scale=0.5, policy=MAML_NET),
        iterations=100,
        tasks_per_update=40,
        adaptations=0,
    )


def pretrained_half_cheetah_dir() -> Experiment:
    """One policy trained on both directions of half-cheetah, and fine-tuned at test.

    Training is that of ``average/half-cheetah-dir``; fine-tuning has the inner step 0.1 of Rothfuss
    et al. 2019 (ProMP).
    """
    return Experiment(
        preset="pretrained/half-cheetah-dir",
        env=envs.preset("metarl/HalfCheetahDir-v0"),
        agent=PretrainedConfig(policy=PROMP_NET),
        tasks_per_update=80,
        adaptations=0,
    )


def told_navigation() -> Experiment:
    """One policy for 2-D navigation that is told the goal; otherwise ``average/navigation``."""
    return Experiment(
        preset="told/navigation",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=AverageConfig(policy=MAML_NET),
        told=True,
        iterations=100,
        tasks_per_update=40,
        adaptations=0,
    )


def told_half_cheetah_dir() -> Experiment:
    """One policy for half-cheetah that is told the direction; else ``average/half-cheetah-dir``."""
    return Experiment(
        preset="told/half-cheetah-dir",
        env=envs.preset("metarl/HalfCheetahDir-v0"),
        agent=AverageConfig(policy=PROMP_NET),
        told=True,
        tasks_per_update=80,
        adaptations=0,
    )


REFERENCES: Sequence[Callable[[], Experiment]] = (
    average_navigation,
    average_half_cheetah_dir,
    pretrained_navigation,
    pretrained_half_cheetah_dir,
    told_navigation,
    told_half_cheetah_dir,
)
