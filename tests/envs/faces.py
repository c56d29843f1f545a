"""Environments behind their faces, as the tests of all faces make them."""

from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.vector import VectorEnv

from metarl.envs import ENVS
from metarl.envs.from_mjcf import FromMjcf, Goal
from metarl.envs.gymnasium_single import TaskEnv
from metarl.envs.gymnasium_vector import TaskVectorEnv
from metarl.protocols import VectorTaskEnv

N = 3
GOAL, CHEETAH = "metarl/PointNavigation-v0", "metarl/HalfCheetahDir-v0"
VEL, MDP = "metarl/HalfCheetahVel-v0", "metarl/TabularMDP-v0"
ROCKET = FromMjcf(  # its simulator fails under a full push
    name="my/Rocket-v0",
    xml="""
    <mujoco>
      <worldbody>
        <body><joint name="slide" type="slide" axis="1 0 0"/><geom size="0.1" mass="1"/></body>
      </worldbody>
      <actuator><motor joint="slide" gear="1e13" ctrlrange="-1 1"/></actuator>
    </mujoco>
    """,
    reward=lambda moved: moved.after[:, 0] - moved.parameter["place"],
    horizon=20,
    substeps=1,
    goals=(Goal("place", low=0.0, high=1.0),),
)
every_env = pytest.mark.parametrize("name", ENVS)


def inmost(env: gymnasium.Env[Any, Any]) -> TaskEnv:
    """The suite's own environment within wrappers."""
    inner = env.unwrapped
    assert isinstance(inner, TaskEnv)
    return inner


def single(name: str, **settings: Any) -> TaskEnv:
    return inmost(gymnasium.make(name, **settings))


def vector(name: str, num_envs: int = N, **settings: Any) -> TaskVectorEnv:
    env = gymnasium.make_vec(name, num_envs=num_envs, **settings)
    assert isinstance(env, TaskVectorEnv)
    return env


def actions(env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any], number: int) -> list[Any]:
    env.action_space.seed(5)
    return [env.action_space.sample() for _ in range(number)]


def own_action(env: VectorTaskEnv, action: Any) -> torch.Tensor:
    """What the environment itself takes for an action of its faces."""
    tensor = torch.as_tensor(action)
    return tensor if env.spec.discrete else tensor * env.spec.action_limit
