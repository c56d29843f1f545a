"""Presets of RL^2.

Its papers trained with TRPO or actor-critic, on up to 250,000 steps for each update; here it is PPO
on 20,000 to 100,000. Discount, lambda, clip, epochs and memory size are those of garage's RL^2 with
PPO unless a preset says otherwise. Tasks are drawn afresh for every trial where they cost nothing
(E = 1), so that the batch holds as many of them as it can.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from metarl import envs
from metarl.agents.rl2 import Rl2Config
from metarl.envs.tabular import BernoulliBanditConfig
from metarl.experiments.experiment import Experiment
from metarl.policies import PolicyConfig

# Fewer passes through more trials, and a smaller bonus: near the optimum the paper's gains are
# fractions of a pull, and garage's bonus of 0.02 on every step would cost as much. Large steps that
# grow shorter get there (docs/agents/rl2.md has what smaller ones lose), and a smaller lambda keeps
# the luck of later pulls out of an action's credit.
_TABULAR = Rl2Config(epochs=5, entropy_coefficient=0.01, gae_lambda=0.7, learning_rate=3e-3)


def rl2_bandit() -> Experiment:
    """RL^2 on Bernoulli bandits, k = 5, a trial of n = 10 pulls (Duan et al. 2016, section 3.1).

    The n pulls are one episode, so that a trial has one round and the end flag never shows. Ours
    are the size of the net (the paper has 256 units), the batch and the number of iterations.
    """
    return Experiment(
        preset="rl2/bandit",
        env=BernoulliBanditConfig(horizon=10),
        agent=replace(_TABULAR, minibatches=8, anneal_over=200),
        iterations=200,
        tasks_per_update=2000,
        episodes=1,
        adaptations=0,
    )


def rl2_bandit_n100() -> Experiment:
    """RL^2 on Bernoulli bandits, k = 5, a trial of n = 100 pulls (Duan et al. 2016, section 3.1).

    As ``rl2/bandit``, with ten times as many pulls in a trial, half of the trials, twice the units,
    4 epochs instead of 5, and 400 iterations instead of 200. Policy and values have a layer of
    their own after the memory, and lambda is 0.9: what an arm is worth trying for is earned over
    many pulls (docs/agents/rl2.md).
    """
    return Experiment(
        preset="rl2/bandit-n100",
        env=BernoulliBanditConfig(horizon=100),
        agent=replace(
            _TABULAR,
            epochs=4,
            minibatches=8,
            gae_lambda=0.9,
            anneal_over=400,
            memory_size=128,
            policy=PolicyConfig(hidden_sizes=(128,)),
        ),
        iterations=400,
        tasks_per_update=1000,
        episodes=1,
        adaptations=0,
    )


def rl2_tabular_mdp() -> Experiment:
    """RL^2 on random MDPs with 10 states, 5 actions and n = 10 episodes (Duan et al., section 3.2).

    What the paper's table counts is the sum over the 10 rounds of the evaluation. Batch and number
    of iterations are ours. So is the layer after the memory, which can look up what is known
    of the present state; the paper has none, and 256 units. Ours are Muon, units that forget slowly
    at first, and a discount that is 0 for 800 meta-iterations and then rises to 0.95, where the
    paper has 0.99: in these MDPs planning gains little (docs/ceilings.md), and as long as the
    memory is poor, sums over later steps drown what that of one state is worth
    (docs/agents/rl2.md).
    """
    return Experiment(
        preset="rl2/tabular-mdp",
        env=envs.preset("metarl/TabularMDP-v0"),
        agent=replace(
            _TABULAR,
            epochs=4,
            minibatches=8,
            optimizer="muon",
            discount=0.95,
            raise_discount=(800, 1100),
            gae_lambda=0.9,
            anneal_over=1500,
            memory_size=128,
            longest_memory=100,
            policy=PolicyConfig(hidden_sizes=(128,)),
        ),
        iterations=1500,
        tasks_per_update=500,
        episodes=1,
        adaptations=9,
    )


def rl2_grid_navi() -> Experiment:
    """RL^2 on the grid of Zintgraf et al. 2020 (VariBAD), 4 episodes of 15 steps in a trial.

    The task is theirs; the settings of the agent are ours.
    """
    return Experiment(
        preset="rl2/grid-navi",
        env=envs.preset("metarl/GridNavi-v0"),
        agent=replace(_TABULAR, anneal_over=500),
        iterations=500,
        tasks_per_update=400,
        episodes=1,
        adaptations=3,
    )


def rl2_grid_maze() -> Experiment:
    """RL^2 on grid mazes of side 9, 2 episodes in a trial (Duan et al. 2016, section 3.3).

    The paper sees its mazes through images; the settings of the agent are ours.
    """
    return Experiment(
        preset="rl2/grid-maze",
        env=envs.preset("metarl/GridMaze-v0"),
        agent=Rl2Config(epochs=5, entropy_coefficient=0.01),
        iterations=300,
        tasks_per_update=200,
        episodes=1,
    )


def rl2_navigation() -> Experiment:
    """RL^2 on 2-D navigation, 2 episodes in a trial; no published setting, the task is MAML's."""
    return Experiment(
        preset="rl2/navigation",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=Rl2Config(entropy_coefficient=0.0),
        tasks_per_update=100,
        episodes=1,
    )


def rl2_half_cheetah_dir() -> Experiment:
    """RL^2 on half-cheetah direction, 2 episodes in a trial; no published setting but the task's.

    The task is that of Rothfuss et al. 2019 (ProMP). 40 tasks as there, 4 trials of each.
    """
    return Experiment(
        preset="rl2/half-cheetah-dir",
        env=envs.preset("metarl/HalfCheetahDir-v0"),
        agent=Rl2Config(memory_size=128, entropy_coefficient=0.0),
        episodes=4,
    )


RL2: Sequence[Callable[[], Experiment]] = (
    rl2_bandit,
    rl2_bandit_n100,
    rl2_tabular_mdp,
    rl2_grid_navi,
    rl2_grid_maze,
    rl2_navigation,
    rl2_half_cheetah_dir,
)
