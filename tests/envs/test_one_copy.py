"""A user's Gymnasium environment as the one copy that an agent adapts in."""

import json
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import RescaleAction, TimeLimit

from metarl import agents, envs
from metarl.checks import EnvFaultError, InputError
from metarl.envs.one_copy import OneCopy
from metarl.sampler import collect, collect_in_turn
from metarl.seeding import Streams
from metarl.types import Tasks
from tests.conftest import SMALL_ENVS, build_world
from tests.envs.faces import inmost

STREAMS = Streams(6)
TASK = {"target": 2.0}


class Rig(gymnasium.Env[Any, Any]):
    """Writes down what it is told; its state counts the steps."""

    def __init__(self, action: Any, ends: int = 99, cut: int = 99) -> None:
        self.observation_space = spaces.Box(-9.0, 9.0, (2,), np.float64)
        self.action_space = action
        self.told: list[Any] = []
        self._ends, self._cut = ends, cut

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.told.append((seed, options))
        self.time = 0
        return np.zeros(2), {}

    def step(self, action: Any) -> Any:
        self.told.append(action)
        self.time += 1
        obs = np.array([self.time, -self.time], dtype=np.float64)
        return obs, 0.5 * self.time, self.time == self._ends, self.time == self._cut, {}


class TaskRig(Rig):
    def set_task(self, task: dict[str, float]) -> None:
        self.told.append(task)


LEVER = spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 4.0]), dtype=np.float64)
MOTOR = spaces.Box(-2.0, 2.0, (1,), np.float32)
RUNS = torch.ones(1, 1, dtype=torch.bool)


@pytest.mark.parametrize(
    ("space", "action", "told"),
    [
        (LEVER, [0.5, -0.5], [0.5, 1.0]),
        (LEVER, [-3.0, 3.0], [-1.0, 4.0]),
        (MOTOR, [1.5], [1.5]),
        (MOTOR, [-2.5], [-2.0]),
    ],
)
def test_actions_reach_the_box_as_in_training(
    space: spaces.Box, action: list[float], told: list[float]
) -> None:
    rig = Rig(space)
    copy = OneCopy(rig, horizon=5)
    copy.reset(copy.tasks, 1, STREAMS)
    step = copy.step(torch.tensor([[action]]), RUNS)
    assert rig.told[-1].tolist() == told
    assert rig.told[-1].dtype == space.dtype
    assert space.contains(rig.told[-1])
    assert (step.obs.tolist(), step.reward.tolist()) == ([[[1.0, -1.0]]], [[0.5]])
    assert step.obs.dtype == torch.float32
    assert not step.terminated.any()
    assert not step.faulty.any()


def test_choices_are_told_as_numbers() -> None:
    rig = Rig(spaces.Discrete(3), ends=2)
    copy = OneCopy(rig, horizon=5)
    assert (copy.spec.discrete, copy.spec.action_size, copy.action_range) == (True, 3, None)
    copy.reset(copy.tasks, 1, STREAMS)
    assert not copy.step(torch.tensor([[2]]), RUNS).terminated.any()
    assert copy.step(torch.tensor([[1]]), RUNS).terminated.all()
    assert rig.told[-2:] == [2, 1]


def test_tasks_are_told_before_every_episode() -> None:
    plain, settable = Rig(MOTOR), TaskRig(MOTOR)
    for rig in (plain, settable):
        copy = OneCopy(rig, horizon=3, task=TASK)
        for episode in range(2):
            copy.reset(copy.tasks, 1, STREAMS.at(episode))
    seeds = [seed for seed, _ in plain.told]
    assert [options for _, options in plain.told] == [{"task": TASK}] * 2
    assert settable.told == [TASK, (seeds[0], None), TASK, (seeds[1], None)]
    assert seeds[0] != seeds[1]


def test_a_task_of_arrays_is_told_as_it_is_and_kept_as_plain_data() -> None:
    goal = np.array([0.25, -1.0], np.float32)
    task = {"goal": goal, "mass": np.float32(0.5), "walls": (torch.ones(1), [np.int64(2)])}
    plain, settable = Rig(MOTOR), TaskRig(MOTOR)
    for rig in (plain, settable):
        copy = OneCopy(rig, horizon=3, task=task)
        copy.reset(copy.tasks, 1, STREAMS)
    assert plain.told[0][1]["task"]["goal"] is goal
    assert settable.told[0]["goal"] is goal
    assert copy.task == {"goal": [0.25, -1.0], "mass": 0.5, "walls": [[1.0], [2]]}
    assert json.loads(json.dumps(copy.task)) == copy.task
    for value in (object(), np.nan, 1j, {2 + 1j: 1.0}):
        with pytest.raises(InputError, match=r"TaskRig: a task must hold finite numbers.*; got"):
            OneCopy(rig, horizon=3, task={"goal": value})


def test_the_time_limit_is_the_environments_own_or_given() -> None:
    with pytest.raises(InputError, match=r"tells no time limit: OneCopy\(env, horizon=\.\.\.\)"):
        OneCopy(Rig(MOTOR))
    pendulum = gymnasium.make("Pendulum-v1")
    assert OneCopy(pendulum).spec.horizon == 200
    assert OneCopy(pendulum, horizon=30).spec.horizon == 30
    assert OneCopy(pendulum).spec.action_limit == 2.0
    with pytest.raises(InputError, match=r"horizon must be a whole number .*, got 0$"):
        OneCopy(pendulum, horizon=0)


def test_an_early_end_without_termination_is_an_error() -> None:
    copy = OneCopy(TimeLimit(Rig(MOTOR), 3), horizon=5)
    copy.reset(copy.tasks, 1, STREAMS)
    for _ in range(2):
        copy.step(torch.zeros(1, 1, 1), RUNS)
    with pytest.raises(EnvFaultError, match="truncated at step 3, before the horizon of 5"):
        copy.step(torch.zeros(1, 1, 1), RUNS)
    OneCopy(TimeLimit(Rig(MOTOR), 3), horizon=3)


def test_an_episode_that_is_over_leaves_the_environment_alone() -> None:
    """It ends at step 2, and would be truncated at 4 if it were stepped on."""
    rig = Rig(MOTOR, ends=2, cut=4)
    copy = OneCopy(rig, horizon=6)
    agent = agents.build("random", copy.spec)
    batch, _ = collect_in_turn(copy, copy.tasks, agent, agent.begin(1, 1), 2, STREAMS)
    assert batch.mask.tolist() == [[[True] * 2 + [False] * 4] * 2]
    assert batch.reward.tolist() == [[[0.5, 1.0, 0.0, 0.0, 0.0, 0.0]] * 2]
    assert batch.obs[0, :, :, 0].tolist() == [[0.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]] * 2
    assert [len(told) for told in rig.told] == [2, 1, 1] * 2  # a reset, two actions


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (gymnasium.make("Pendulum-v1").action_space, "gymnasium.Env, is needed, got Box"),
        (Rig(spaces.MultiDiscrete([2, 2])), "action_space must be a Box of one axis"),
        (Rig(spaces.Discrete(3, start=1)), "or Discrete from 0"),
        (Rig(spaces.Box(-1.0, 1.0, (2, 2))), "action_space must be a Box of one axis"),
        (Rig(spaces.Box(-np.inf, np.inf, (2,))), "finite bounds"),
        (gymnasium.make("FrozenLake-v1"), "FlattenObservation"),
    ],
)
def test_what_no_agent_can_use_is_refused(env: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        OneCopy(env, horizon=4)


def test_one_episode_of_one_task_at_a_time() -> None:
    copy = OneCopy(Rig(MOTOR), horizon=4)
    with pytest.raises(ValueError, match="got 1 tasks, 2 episodes"):
        copy.reset(copy.tasks, 2, STREAMS)
    with pytest.raises(ValueError, match="got 2 tasks, 1 episodes"):
        copy.reset(Tasks(torch.zeros(2), {}), 1, STREAMS)


def test_it_leads_through_the_same_episodes_as_the_batched_environment() -> None:
    world = build_world("maml-trpo", "metarl/PointNavigation-v0")
    agent, tasks = world.new_agent(), world.distribution.held_out(3).take(slice(2, 3))
    single = gymnasium.make("metarl/PointNavigation-v0", config=SMALL_ENVS[world.env.spec.name])
    inmost(single).set_task({"goal": tasks.parameter["goal"][0]})
    copy = OneCopy(single)
    assert copy.spec == world.env.spec
    expected, _ = collect_in_turn(world.env, tasks, agent, agent.begin(1, 1), 3, STREAMS)
    batch, _ = collect_in_turn(copy, copy.tasks, agent, agent.begin(1, 1), 3, STREAMS)
    for name, leaf in batch._asdict().items():
        if name != "task_id":
            there = getattr(expected, name)
            assert leaf.shape == there.shape
            assert torch.allclose(leaf.double(), there.double(), atol=1e-5), name
    assert batch.reward.sum() < -1.0


def test_shares_of_a_face_become_the_agents_own_actions() -> None:
    """Where +-10 saturates, an agent's 5 is half of what a motor can do; wrappers count too."""
    name = "metarl/HalfCheetahDir-v0"
    face = gymnasium.make(name, preset="promp-2019", split="test")
    copies = (OneCopy(face), OneCopy(RescaleAction(face, np.float32(-7.0), np.float32(3.0))))
    _, env = envs.build(name, envs.preset(name, "promp-2019"), threads=1)
    results = []
    for copy in copies:
        assert copy.spec == env.spec
        assert copy.spec.action_limit == 10.0
        copy.reset(copy.tasks, 1, STREAMS)
        results.append(copy.step(torch.full((1, 1, 6), 5.0), RUNS).obs)
    copies[0].reset(copies[0].tasks, 1, STREAMS)
    direct, *_ = face.step(np.full(6, 0.5, dtype=np.float32))
    assert np.array_equal(results[0][0, 0].numpy(), direct)
    assert torch.allclose(results[0], results[1], atol=1e-5)


def test_the_task_is_the_one_that_comes_next_and_stays() -> None:
    env = gymnasium.make("metarl/HalfCheetahVel-v0", config={"horizon": 4})
    env.reset(seed=1, options={"task": {"velocity": 0.5}})
    inmost(env).set_task({"velocity": 1.5})
    copy = OneCopy(env)
    assert copy.task == {"velocity": 1.5}
    fresh = OneCopy(gymnasium.make("metarl/HalfCheetahVel-v0", config={"horizon": 4}))
    agent = build_world("random", "metarl/HalfCheetahDir-v0").new_agent()
    for one in (copy, fresh):
        known = agent.begin(1, 1)
        collect(one, one.tasks, agent, known, 1, STREAMS)
    assert inmost(env).task == {"velocity": 1.5}
    assert fresh.task is not None
    assert 0.0 <= fresh.task["velocity"] <= 3.0
