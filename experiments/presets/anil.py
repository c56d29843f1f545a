"""Presets of ANIL."""

from collections.abc import Callable, Sequence

from metarl import envs
from metarl.agents.anil import AnilConfig
from metarl.experiments.experiment import Experiment
from metarl.experiments.presets.maml import MAML_NET, PROMP_NET


def anil_navigation() -> Experiment:
    """ANIL on 2-D navigation (Raghu et al. 2020, section 4), in MAML's setting.

    The paper follows MAML's experiments. From them: net 100-100 ReLU, meta-batch 20, 20 rollouts,
    inner step 0.1 and at test 0.05 after the first; and the 100 iterations that MAML has here.
    """
    return Experiment(
        preset="anil/navigation",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=AnilConfig(later_lr_scale=0.5, policy=MAML_NET),
        iterations=100,
        tasks_per_update=20,
    )


def anil_half_cheetah_dir() -> Experiment:
    """ANIL on half-cheetah direction, with the settings of MAML-TRPO in Rothfuss et al. 2019.

    Raghu et al. take MAML's net of 100-100 ReLU and 20 rollouts of 40 tasks; net 64-64 and numbers
    are ProMP's here, so that agents can be compared. 300 iterations instead of 1001.
    """
    return Experiment(
        preset="anil/half-cheetah-dir",
        env=envs.preset("metarl/HalfCheetahDir-v0"),
        agent=AnilConfig(policy=PROMP_NET),
    )


ANIL: Sequence[Callable[[], Experiment]] = (anil_navigation, anil_half_cheetah_dir)
