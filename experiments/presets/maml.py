"""Presets of MAML, with all three of its outer steps.

Where a paper leaves something open, or where we depart from it, the function says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from metarl import envs
from metarl.agents.maml import MamlPpoConfig, MamlTrpoConfig, MamlVpgConfig
from metarl.experiments.experiment import Experiment
from metarl.policies import PolicyConfig

BANDIT_NET = PolicyConfig(hidden_sizes=(32, 32), activation="relu")
PROMP_NET = PolicyConfig(hidden_sizes=(64, 64), activation="tanh")
MAML_NET = PolicyConfig(hidden_sizes=(100, 100), activation="relu")
# Inner step 0.1 in training, and at test 0.1 and then 0.05 (Finn et al. 2017, appendix A.2).
_MAML_2017 = MamlTrpoConfig(inner_lr=0.1, later_lr_scale=0.5, policy=MAML_NET)


def maml_bandit() -> Experiment:
    """MAML-TRPO on Bernoulli bandits, k = 5, n = 10 pulls.

    Inner step 0.5, gamma 0.95 and net 32-32 ReLU as in the original gradient setting (Finn et al.
    2017, released code). The n pulls are n episodes of length 1, of which the gradient is taken; n
    fresh pulls of the adapted policy are then counted. Two departures, both needed here: the ratio
    objective, whose curvature keeps credit for exploring (with the log-likelihood of the paper the
    policy before adaptation stops exploring after some 100 iterations), and a meta-batch of 100
    (with 20 tasks of 10 pulls the trust region fits noise). 200 iterations, as nothing in MAML's
    objective rewards the exploration itself: after some 400 it was lost here all the same.
    """
    return Experiment(
        preset="maml-trpo/bandit",
        env=envs.preset("metarl/BernoulliBandit-v0"),
        agent=MamlTrpoConfig(
            inner_lr=0.5, inner_objective="ratio", discount=0.95, policy=BANDIT_NET
        ),
        iterations=200,
        tasks_per_update=100,
        episodes=10,
    )


def maml_bandit_n100() -> Experiment:
    """MAML-TRPO on Bernoulli bandits, k = 5, n = 100 pulls; all but n is ``maml-trpo/bandit``'s."""
    return replace(maml_bandit(), preset="maml-trpo/bandit-n100", episodes=100)


def maml_tabular_mdp() -> Experiment:
    """MAML-TRPO on random MDPs with 10 states, 5 actions and n = 10 episodes.

    The original gradient setting: meta-batch 20, inner step 0.5, gamma 0.95, net 32-32 ReLU.
    """
    return Experiment(
        preset="maml-trpo/tabular-mdp",
        env=envs.preset("metarl/TabularMDP-v0"),
        agent=MamlTrpoConfig(inner_lr=0.5, discount=0.95, policy=BANDIT_NET),
        iterations=500,
        tasks_per_update=20,
        episodes=10,
    )


def maml_navigation() -> Experiment:
    """MAML-TRPO on 2-D navigation (Finn et al. 2017, section 5.3 and appendix A.2).

    Net 100-100 ReLU, meta-batch 20, 20 rollouts, one inner step in training. The paper's text says
    inner step 0.1 and meta-batch 20, the released script 0.5 and 40; we follow the text. The 100
    iterations are the script's (the text says up to 500, and evaluates the best model; we evaluate
    the last).
    """
    return Experiment(
        preset="maml-trpo/navigation",
        env=envs.preset("metarl/PointNavigation-v0"),
        agent=_MAML_2017,
        iterations=100,
        tasks_per_update=20,
    )


def maml_ppo_navigation() -> Experiment:
    """MAML with PPO's outer steps on 2-D navigation; no published setting.

    Task, net and sizes are those of ``maml-trpo/navigation``, the outer loop is ProMP's without its
    divergence: 5 steps of Adam at 1e-3, clip 0.3.
    """
    agent = MamlPpoConfig(later_lr_scale=0.5, policy=MAML_NET)
    return replace(maml_navigation(), preset="maml-ppo/navigation", agent=agent)


def maml_vpg_navigation() -> Experiment:
    """MAML with one step of Adam outside on 2-D navigation; no published setting.

    Task, net and sizes are those of ``maml-trpo/navigation``. Adam's steps are of 1e-2, as
    Reptile's there: there is one of them in each meta-iteration.
    """
    agent = MamlVpgConfig(outer_lr=1e-2, later_lr_scale=0.5, policy=MAML_NET)
    return replace(maml_navigation(), preset="maml-vpg/navigation", agent=agent)


def maml_half_cheetah_dir() -> Experiment:
    """MAML-TRPO on half-cheetah direction with the settings of Rothfuss et al. 2019 (ProMP).

    As in its released code, but for 300 iterations instead of 1001.
    """
    return Experiment(
        preset="maml-trpo/half-cheetah-dir",
        env=envs.preset("metarl/HalfCheetahDir-v0"),
        agent=MamlTrpoConfig(policy=PROMP_NET),
    )


def maml_half_cheetah_dir_2017() -> Experiment:
    """MAML-TRPO on half-cheetah direction as in Finn et al. 2017, appendix A.2."""
    return Experiment(
        preset="maml-trpo/half-cheetah-dir@maml-2017",
        env=envs.preset("metarl/HalfCheetahDir-v0", "maml-2017"),
        agent=_MAML_2017,
        iterations=500,
    )


def maml_half_cheetah_vel() -> Experiment:
    """MAML-TRPO on half-cheetah velocity with the settings of Rothfuss et al. 2019 (ProMP).

    As in its released code, but for 300 iterations instead of 1001.
    """
    return Experiment(
        preset="maml-trpo/half-cheetah-vel",
        env=envs.preset("metarl/HalfCheetahVel-v0"),
        agent=MamlTrpoConfig(policy=PROMP_NET),
    )


def maml_half_cheetah_vel_2017() -> Experiment:
    """MAML-TRPO on half-cheetah velocity as in Finn et al. 2017, appendix A.2."""
    return Experiment(
        preset="maml-trpo/half-cheetah-vel@maml-2017",
        env=envs.preset("metarl/HalfCheetahVel-v0", "maml-2017"),
        agent=_MAML_2017,
        iterations=500,
    )


def maml_ant_dir() -> Experiment:
    """MAML-TRPO on ant direction with the settings of Rothfuss et al. 2019 (ProMP).

    Those of half-cheetah: net 64-64, 40 tasks, 20 rollouts, inner step 0.1. 300 iterations instead
    of 1001.
    """
    return Experiment(
        preset="maml-trpo/ant-dir",
        env=envs.preset("metarl/AntDir-v0"),
        agent=MamlTrpoConfig(policy=PROMP_NET),
    )


def maml_walker2d_params() -> Experiment:
    """MAML-TRPO on the walker of unknown build, with the settings of Rothfuss et al. 2019 (ProMP).

    Those of half-cheetah, but for episodes of 200 steps.
    """
    return Experiment(
        preset="maml-trpo/walker2d-rand-params",
        env=envs.preset("metarl/Walker2dRandParams-v0"),
        agent=MamlTrpoConfig(policy=PROMP_NET),
    )


def maml_grid_maze() -> Experiment:
    """MAML-TRPO on grid mazes of side 9; no published setting, and one in which it does not learn.

    100 tasks, as the goal is found in two of three of them at first: with 40 an update follows
    noise. But the policy before adaptation loses the exploration that its adaptation needs, which
    nothing in MAML's objective rewards. An agent with memory learns these mazes: ``rl2/grid-maze``.
    Both are in docs/comparison.md.
    """
    return Experiment(
        preset="maml-trpo/grid-maze",
        env=envs.preset("metarl/GridMaze-v0"),
        agent=MamlTrpoConfig(
            inner_lr=0.5, inner_objective="ratio", discount=0.95, policy=PROMP_NET
        ),
        tasks_per_update=100,
    )


MAML: Sequence[Callable[[], Experiment]] = (
    maml_bandit,
    maml_bandit_n100,
    maml_tabular_mdp,
    maml_navigation,
    maml_ppo_navigation,
    maml_vpg_navigation,
    maml_half_cheetah_dir,
    maml_half_cheetah_dir_2017,
    maml_half_cheetah_vel,
    maml_half_cheetah_vel_2017,
    maml_ant_dir,
    maml_walker2d_params,
    maml_grid_maze,
)
