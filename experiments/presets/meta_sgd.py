"""Presets of Meta-SGD."""

from collections.abc import Callable, Sequence

from metarl import envs
from metarl.agents.meta_sgd import MetaSgdConfig
from metarl.experiments.experiment import Experiment
from metarl.experiments.presets.maml import MAML_NET, PROMP_NET


def meta_sgd_navigation() -> Experiment:
    """Meta-SGD on 2-D navigation (Li et al. 2017, section 4.3), in MAML's setting.

    The paper repeats MAML's task, net (100-100 ReLU), meta-batch (20) and rollouts (20) with 100
    iterations of TRPO. Where alpha starts we chose: all entries from MAML's 0.1, so that both learn
    from the same start (for supervised tasks the paper draws from [0.005, 0.1]).
    """
    return Experiment(
        preset="meta-sgd/navigation",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=MetaSgdConfig(policy=MAML_NET),
        iterations=100,
        tasks_per_update=20,
    )


def meta_sgd_half_cheetah_dir() -> Experiment:
    """Meta-SGD on half-cheetah direction; no published setting, it is that of MAML-TRPO.

    Tasks, net and numbers are those of Rothfuss et al. 2019 (ProMP), alpha starts from its inner
    step of 0.1; 300 iterations instead of 1001.
    """
    return Experiment(
        preset="meta-sgd/half-cheetah-dir",
        env=envs.preset("metarl/HalfCheetahDir-v0"),
        agent=MetaSgdConfig(policy=PROMP_NET),
    )


META_SGD: Sequence[Callable[[], Experiment]] = (meta_sgd_navigation, meta_sgd_half_cheetah_dir)
