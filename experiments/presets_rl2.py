"""Presets of RL^2.

Wherever its papers ran a task, theirs is the task alone: they trained with TRPO or actor-critic and
several hundred thousand steps for each update, we with PPO on far fewer. Discount, lambda, clip,
entropy bonus and epochs are those of garage's RL^2 with PPO unless a preset says otherwise.

A trial counts E times where E copies of each task are run; fresh tasks for all of them would say
more, but MuJoCo shares work between copies of a task.
"""

from collections.abc import Callable, Sequence

from metarl.agents.rl2 import Rl2Config
from metarl.envs.tabular import BernoulliBanditConfig
from metarl.experiments.experiment import Experiment


def rl2_bandit() -> Experiment:
    """RL^2 on Bernoulli bandits, k = 5, a trial of n = 10 pulls (Duan et al. 2016, section 3.1)."""
    return Experiment(
        preset="rl2/bandit",
        env=BernoulliBanditConfig(horizon=10),
        agent=Rl2Config(),
        iterations=300,
        tasks_per_update=1000,
        episodes=1,
        adaptations=0,
    )


RL2: Sequence[Callable[[], Experiment]] = (rl2_bandit,)
