"""The table of environments: a name to its config, its published presets and its builder."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from torch import Tensor

from metarl.checks import COUNT, InputError, unknown
from metarl.envs import (
    ant,
    ant_maze,
    bandit_ceilings,
    grid_maze,
    grid_navi,
    grid_navi_ceilings,
    half_cheetah,
    half_cheetah_params,
    hopper,
    humanoid,
    mdp_ceilings,
    navigation,
    point_maze,
    reacher,
    swimmer,
    tabular,
    walker2d,
)
from metarl.envs.physics import default_threads
from metarl.envs.registration import register
from metarl.protocols import TaskDistribution, VectorTaskEnv
from metarl.seeding import Streams
from metarl.types import Tasks

EnvConfig: TypeAlias = (
    tabular.BernoulliBanditConfig
    | tabular.GaussianBanditConfig
    | tabular.TabularMDPConfig
    | navigation.NavigationConfig
    | grid_navi.GridNaviConfig
    | grid_maze.GridMazeConfig
    | half_cheetah.HalfCheetahDirConfig
    | half_cheetah.HalfCheetahVelConfig
    | half_cheetah_params.HalfCheetahRandParamsConfig
    | ant.AntDirConfig
    | ant.AntVelConfig
    | ant.AntGoalConfig
    | humanoid.HumanoidDirConfig
    | walker2d.Walker2dVelConfig
    | walker2d.Walker2dRandParamsConfig
    | hopper.HopperVelConfig
    | hopper.HopperRandParamsConfig
    | swimmer.SwimmerVelConfig
    | reacher.ReacherGoalConfig
    | point_maze.PointMazeConfig
    | ant_maze.AntMazeConfig
)


Ceiling: TypeAlias = Callable[[Any, Tasks, int, Streams], Tensor]
"""(config, tasks, episodes, streams) to [K, episodes]: the expected return of each episode of a
trial of so many episodes on each task, for a reference that knows the family or even the task."""

Shows: TypeAlias = Literal["rewards", "dynamics", "start"]


class Family(NamedTuple):
    """One row of the table."""

    summary: str
    config: type[Any]
    presets: Mapping[str, Any]
    """Named settings, published where a paper has them; the first is the default."""
    build: Callable[[str, Any, str, int], tuple[TaskDistribution, VectorTaskEnv]]
    """(name, config, device, threads) to the distribution and the environment."""
    ceilings: Mapping[str, Ceiling] = MappingProxyType({})
    """What can be reached, by the name of who reaches it, where it can be computed."""
    trial: int = 10
    """Episodes of a trial for which pages show what can be reached: of the paper, if it says."""
    shows: Shows = "rewards"
    """Where the task shows itself: in rewards alone; in the dynamics too; or at the first sight."""


ENVS: Mapping[str, Family] = {
    "metarl/BernoulliBandit-v0": Family(
        "k arms with hidden success probabilities",
        tabular.BernoulliBanditConfig,
        tabular.BERNOULLI_PRESETS,
        tabular.build_bandit,
        ceilings=bandit_ceilings.BERNOULLI_CEILINGS,
    ),
    "metarl/GaussianBandit-v0": Family(
        "k arms with hidden mean payoffs",
        tabular.GaussianBanditConfig,
        tabular.GAUSSIAN_PRESETS,
        tabular.build_bandit,
        ceilings=bandit_ceilings.GAUSSIAN_CEILINGS,
    ),
    "metarl/TabularMDP-v0": Family(
        "random finite MDPs: 10 states, 5 actions",
        tabular.TabularMDPConfig,
        tabular.MDP_PRESETS,
        tabular.build_mdp,
        ceilings=mdp_ceilings.MDP_CEILINGS,
        shows="dynamics",
    ),
    "metarl/PointNavigation-v0": Family(
        "a point in the plane and a hidden goal",
        navigation.NavigationConfig,
        navigation.PRESETS,
        navigation.build,
    ),
    "metarl/GridNavi-v0": Family(
        "a grid and a hidden goal cell",
        grid_navi.GridNaviConfig,
        grid_navi.PRESETS,
        grid_navi.build,
        ceilings={
            "Bayes-optimal": grid_navi_ceilings.bayes_optimal,
            "told the goal": grid_navi_ceilings.told_the_goal,
        },
        trial=4,
    ),
    "metarl/GridMaze-v0": Family(
        "mazes with a hidden goal, tested in unseen ones",
        grid_maze.GridMazeConfig,
        grid_maze.PRESETS,
        grid_maze.build,
        ceilings={"shortest path": grid_maze.shortest_path},
        trial=2,
        shows="start",
    ),
    "metarl/HalfCheetahDir-v0": Family(
        "half-cheetah, forwards or backwards",
        half_cheetah.HalfCheetahDirConfig,
        half_cheetah.DIR_PRESETS,
        half_cheetah.build,
    ),
    "metarl/HalfCheetahVel-v0": Family(
        "half-cheetah at a hidden velocity",
        half_cheetah.HalfCheetahVelConfig,
        half_cheetah.VEL_PRESETS,
        half_cheetah.build,
    ),
    "metarl/HalfCheetahRandParams-v0": Family(
        "half-cheetah of unknown masses, frictions and dampings",
        half_cheetah_params.HalfCheetahRandParamsConfig,
        half_cheetah_params.PRESETS,
        half_cheetah_params.build,
        shows="dynamics",
    ),
    "metarl/AntDir-v0": Family(
        "ant, in a hidden direction",
        ant.AntDirConfig,
        ant.DIR_PRESETS,
        ant.build,
    ),
    "metarl/AntVel-v0": Family(
        "ant at a hidden velocity",
        ant.AntVelConfig,
        ant.VEL_PRESETS,
        ant.build,
    ),
    "metarl/AntGoal-v0": Family(
        "ant and a hidden place to go to",
        ant.AntGoalConfig,
        ant.GOAL_PRESETS,
        ant.build,
    ),
    "metarl/HumanoidDir-v0": Family(
        "humanoid, in a hidden direction",
        humanoid.HumanoidDirConfig,
        humanoid.PRESETS,
        humanoid.build,
    ),
    "metarl/Walker2dVel-v0": Family(
        "walker at a hidden velocity",
        walker2d.Walker2dVelConfig,
        walker2d.VEL_PRESETS,
        walker2d.build,
    ),
    "metarl/Walker2dRandParams-v0": Family(
        "walker of unknown masses, frictions and dampings",
        walker2d.Walker2dRandParamsConfig,
        walker2d.RAND_PARAMS_PRESETS,
        walker2d.build,
        shows="dynamics",
    ),
    "metarl/HopperVel-v0": Family(
        "hopper at a hidden velocity",
        hopper.HopperVelConfig,
        hopper.VEL_PRESETS,
        hopper.build,
    ),
    "metarl/HopperRandParams-v0": Family(
        "hopper of unknown masses, frictions and dampings",
        hopper.HopperRandParamsConfig,
        hopper.RAND_PARAMS_PRESETS,
        hopper.build,
        shows="dynamics",
    ),
    "metarl/SwimmerVel-v0": Family(
        "swimmer at a hidden velocity",
        swimmer.SwimmerVelConfig,
        swimmer.PRESETS,
        swimmer.build,
    ),
    "metarl/ReacherGoal-v0": Family(
        "an arm and a hidden goal",
        reacher.ReacherGoalConfig,
        reacher.PRESETS,
        reacher.build,
    ),
    "metarl/PointMaze-v0": Family(
        "a ball and a hidden goal, in generated mazes (tested in unseen ones) or fixed ones",
        point_maze.PointMazeConfig,
        point_maze.PRESETS,
        point_maze.build,
        shows="start",
    ),
    "metarl/AntMaze-v0": Family(
        "an ant and a hidden goal, in generated mazes (tested in unseen ones) or fixed ones",
        ant_maze.AntMazeConfig,
        ant_maze.PRESETS,
        ant_maze.build,
        shows="start",
    ),
}


def preset(name: str, preset_name: str | None = None) -> EnvConfig:
    """Return a published config of an environment, by default its first.

    Raises:
        ValueError: no such environment or preset; the message holds the nearest name.
    """
    presets = _family(name).presets
    if preset_name is None:
        preset_name = next(iter(presets))
    if preset_name not in presets:
        raise InputError([unknown(f"preset of {name}", preset_name, presets)])
    config: EnvConfig = presets[preset_name]
    return config


def build(
    name: str, config: EnvConfig | None = None, *, device: str = "cpu", threads: int | None = None
) -> tuple[TaskDistribution, VectorTaskEnv]:
    """Build the task distribution and the environment of a name.

    Args:
        name: a key of ``ENVS``.
        config: of the family's type; the default preset where left out.
        device: where the tensors live. MuJoCo itself stays on the CPU.
        threads: of the physics; all cores of this process where left out.

    Raises:
        ValueError: no such environment; the message holds the nearest name.
        TypeError: ``config`` belongs to another family.
    """
    family = _family(name)
    config = preset(name) if config is None else config
    if threads is not None and not COUNT.accepts(threads):
        raise InputError([f"threads must be {COUNT.text}, got {threads!r}"])
    if type(config) is not family.config:
        raise TypeError(f"{name} takes a {family.config.__name__}, got {type(config).__name__}")
    return family.build(name, config, device, default_threads() if threads is None else threads)


def name_of(config: EnvConfig) -> str:
    """Return the name of the environment that a config belongs to."""
    return next(name for name, family in ENVS.items() if family.config is type(config))


def _family(name: str) -> Family:
    if name not in ENVS:
        raise InputError([unknown("environment", name, ENVS)])
    return ENVS[name]


register(ENVS)
