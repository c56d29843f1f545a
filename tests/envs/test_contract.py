"""The contract of every environment in the table, in every published setting."""

import hashlib
import math
from dataclasses import fields, replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.envs import ENVS
from metarl.protocols import TaskDistribution, VectorTaskEnv
from metarl.seeding import Streams
from metarl.types import Tasks

CASES = [(name, preset) for name, family in ENVS.items() for preset in family.presets]
CHEETAHS = [case for case in CASES if "HalfCheetah" in case[0]]
POINTS = [case for case in CASES if "Navigation" in case[0]]
STATELESS = [case for case in CASES if "Bandit" in case[0]]
K, E, T = 3, 2, 8
STREAMS = Streams(11, ("contract",))

# SHA-256 of the first 40 held-out tasks, or of the whole list where it is shorter. A difference
# here is another benchmark: give it a new version and leave these alone.
HELD_OUT = {
    (
        "metarl/BernoulliBandit-v0",
        "rl2-2016",
    ): "301d8f84125299152999b2b4d80a877f16b67f9a410d184e09ccc54e81f4cc55",
    (
        "metarl/BernoulliBandit-v0",
        "rl2-2016-k10",
    ): "f1966d82f72f67ad65a208499a58bdc89a1bdaa4e341f4ddc508a8d4085d4c93",
    (
        "metarl/BernoulliBandit-v0",
        "rl2-2016-k50",
    ): "5996e407cf2214e0809c67556f0b024a612361186334fc48e415aba9ef547293",
    (
        "metarl/GaussianBandit-v0",
        "default",
    ): "fcc7b844ee6a03b525ea27a49b869e607bf29f85b99d47ede955b201d6e46155",
    (
        "metarl/TabularMDP-v0",
        "rl2-2016",
    ): "53e70615e7439d9d15116a6997aaadcdad2b9d2cf672c1da0473eb757ba2b0d3",
    (
        "metarl/PointNavigation-v0",
        "maml-2017",
    ): "b491dc4f3543867159b7875cd8535dfdb284ac53d563662bb43e3747d03675e5",
    (
        "metarl/HalfCheetahDir-v0",
        "promp-2019",
    ): "e40b235a19aeb96c7c3e8ce3bc6005542f2336936dd5f39ef375e3ea4d770674",
    (
        "metarl/HalfCheetahDir-v0",
        "maml-2017",
    ): "e40b235a19aeb96c7c3e8ce3bc6005542f2336936dd5f39ef375e3ea4d770674",
    (
        "metarl/HalfCheetahVel-v0",
        "promp-2019",
    ): "434684d439f528aa1f0a879b99acaed576a3302a6ce99d104543be47e9f523d2",
    (
        "metarl/HalfCheetahVel-v0",
        "maml-2017",
    ): "540285241cfe8150968298366d2427d0fdf9fd7a453942c6faba8c41ea5b0c05",
    (
        "metarl/HalfCheetahVel-v0",
        "pearl-2019",
    ): "333ab1c1d07dfd76376bfe63a4787b3eb0556e967fffe40637efb2d943ff4b43",
}

every_case = pytest.mark.parametrize(("name", "preset"), CASES)


class Rollout(NamedTuple):
    obs: Tensor
    reward: Tensor
    terminated: Tensor
    faulty: Tensor


def make(name: str, preset: str, horizon: int = T) -> tuple[TaskDistribution, VectorTaskEnv]:
    config: Any = envs.preset(name, preset)
    return envs.build(name, replace(config, horizon=horizon), threads=1)


def actions(env: VectorTaskEnv, num_tasks: int, streams: Streams = STREAMS) -> Tensor:
    size, shape = env.spec.action_size, (E, env.spec.horizon)
    if env.spec.discrete:
        return (streams.uniform("test actions", num_tasks, shape) * size).long()
    return streams.normal("test actions", num_tasks, (*shape, size))


def rollout(
    env: VectorTaskEnv, tasks: Tasks, action: Tensor, streams: Streams = STREAMS
) -> Rollout:
    running = torch.ones(len(tasks.task_id), E, dtype=torch.bool)
    seen, steps = [env.reset(tasks, E, streams).clone()], []
    for time in range(env.spec.horizon):
        steps.append(env.step(action[:, :, time], running))
        seen.append(steps[-1].obs.clone())
    return Rollout(
        torch.stack(seen, 2),
        torch.stack([step.reward for step in steps], 2),
        torch.stack([step.terminated for step in steps], 2),
        torch.stack([step.faulty for step in steps], 2),
    )


def assert_same(one: Rollout, other: Rollout) -> None:
    for name, a, b in zip(Rollout._fields, one, other, strict=True):
        assert torch.equal(a, b), name


def pick(tasks: Tasks, places: list[int]) -> Tasks:
    return Tasks(tasks.task_id[places], {n: leaf[places] for n, leaf in tasks.parameter.items()})


def join(one: Tasks, other: Tasks) -> Tasks:
    leaves = {n: torch.cat((leaf, other.parameter[n])) for n, leaf in one.parameter.items()}
    return Tasks(torch.cat((one.task_id, other.task_id)), leaves)


def assert_same_tasks(one: Tasks, other: Tasks) -> None:
    assert torch.equal(one.task_id, other.task_id)
    assert one.parameter.keys() == other.parameter.keys()
    for name, leaf in one.parameter.items():
        assert torch.equal(leaf, other.parameter[name]), name


def assert_shapes(obs: Tensor, env: VectorTaskEnv) -> None:
    assert obs.shape == (K, E, env.spec.observation_size)
    assert obs.dtype == torch.float32
    assert torch.isfinite(obs).all()


@every_case
def test_shapes_and_dtypes_of_reset_and_step(name: str, preset: str) -> None:
    distribution, env = make(name, preset)
    running = torch.ones(K, E, dtype=torch.bool)
    assert_shapes(env.reset(distribution.sample(K, STREAMS), E, STREAMS), env)
    for action in actions(env, K).unbind(2):
        step = env.step(action, running)
        assert_shapes(step.obs, env)
        for leaf, dtype in (
            (step.reward, torch.float32),
            (step.terminated, torch.bool),
            (step.faulty, torch.bool),
        ):
            assert (leaf.shape, leaf.dtype) == ((K, E), dtype)
        assert torch.isfinite(step.reward).all()
        assert not step.faulty.any()


@every_case
def test_spec_and_tasks_say_what_the_config_says(name: str, preset: str) -> None:
    config: Any = envs.preset(name, preset)
    distribution, env = envs.build(name, config, threads=1)
    tasks = distribution.sample(K, STREAMS)
    assert env.spec.name == name == envs.name_of(config)
    assert env.spec.horizon == config.horizon
    assert env.threads == 1
    assert tasks.task_id.shape == (K,)
    assert tasks.task_id.dtype == torch.int64
    assert tasks.parameter
    for leaf in tasks.parameter.values():
        assert len(leaf) == K
        assert leaf.dtype == torch.float32


@every_case
def test_equal_arguments_give_equal_bits(name: str, preset: str) -> None:
    distribution, env = make(name, preset)
    tasks, action = distribution.sample(K, STREAMS), actions(env, K)
    first = rollout(env, tasks, action)
    rollout(env, distribution.sample(K, STREAMS.at("other")), action, STREAMS.at("other"))
    assert_same(first, rollout(env, tasks, action))
    other_distribution, other_env = make(name, preset)
    torch.rand(3)
    assert_same(first, rollout(other_env, other_distribution.sample(K, STREAMS), action))


@every_case
def test_every_round_and_episode_has_noise_of_its_own(name: str, preset: str) -> None:
    distribution, env = make(name, preset, horizon=40)
    tasks = pick(distribution.held_out(1), [0] * K)
    action = torch.zeros_like(actions(env, K))
    one, other = rollout(env, tasks, action), rollout(env, tasks, action, STREAMS.at("other"))
    if (name, preset) in POINTS:
        assert_same(one, other)  # nothing in it is random
        return
    assert not torch.equal(one.reward, other.reward)
    rows = one.reward.flatten(0, 1)
    assert len({tuple(row.tolist()) for row in rows}) == len(rows)


@every_case
def test_tasks_differ_and_seeds_draw_other_tasks(name: str, preset: str) -> None:
    distribution, _ = make(name, preset)
    tasks, others = (distribution.sample(16, Streams(seed, ("train",))) for seed in (0, 1))
    for leaf_name, leaf in tasks.parameter.items():
        num_different = len(leaf.unique(dim=0))
        assert num_different == 2 if leaf_name == "direction" else num_different >= 14
        assert not torch.equal(leaf, others.parameter[leaf_name])


@every_case
def test_a_different_task_pays_differently(name: str, preset: str) -> None:
    distribution, env = make(name, preset, horizon=40)
    tasks, action = distribution.held_out(2), actions(env, 1)
    one, other = (rollout(env, pick(tasks, [k]), action) for k in range(2))
    assert not torch.equal(one.reward, other.reward)


@every_case
def test_a_task_does_not_depend_on_its_neighbours(name: str, preset: str) -> None:
    distribution, env = make(name, preset)
    tasks, action = distribution.held_out(4), actions(env, 2)
    here, there = (rollout(env, pick(tasks, [0, k]), action) for k in (1, 2))
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one[0], other[0])


@every_case
def test_nothing_but_its_owner_changes_a_task(name: str, preset: str) -> None:
    distribution, env = make(name, preset)
    tasks, action = distribution.held_out(K), actions(env, K)
    before = pick(tasks, list(range(K)))
    for number in range(3):
        rollout(env, tasks, action, STREAMS.at(number))
        assert_same_tasks(tasks, before)
    assert_same(rollout(env, tasks, action), rollout(make(name, preset)[1], before, action))


@every_case
def test_the_first_observation_does_not_leak_the_task(name: str, preset: str) -> None:
    distribution, env = make(name, preset)
    tasks = distribution.held_out(6)
    starts = torch.stack([env.reset(pick(tasks, [k]), E, STREAMS).clone() for k in range(6)])
    assert torch.equal(starts, starts[:1].expand_as(starts))


@pytest.mark.parametrize(("name", "preset"), CHEETAHS + POINTS + STATELESS)
def test_the_task_shows_in_the_reward_alone(name: str, preset: str) -> None:
    distribution, env = make(name, preset, horizon=30)
    tasks, action = distribution.held_out(4), actions(env, 1)
    rollouts = [rollout(env, pick(tasks, [k]), action) for k in range(4)]
    for other in rollouts[1:]:
        assert torch.equal(rollouts[0].obs, other.obs)
    assert not torch.equal(rollouts[0].reward, rollouts[1].reward)


@every_case
def test_a_copy_that_is_not_running_keeps_its_observation(name: str, preset: str) -> None:
    distribution, env = make(name, preset, horizon=4)
    tasks, action = distribution.sample(K, STREAMS), actions(env, K)
    start = env.reset(tasks, E, STREAMS).clone()
    running = torch.tensor([[True, False], [False, False], [True, True]])
    for time in range(3):
        obs = env.step(action[:, :, time], running).obs
        assert torch.equal(obs[~running], start[~running])
    obs = obs.clone()
    after = env.step(action[:, :, 3], torch.zeros_like(running)).obs
    assert torch.equal(after, obs)
    whole = rollout(env, tasks, action)
    assert torch.equal(obs[running], whole.obs[:, :, 3][running])


@every_case
def test_the_time_limit_is_not_a_termination(name: str, preset: str) -> None:
    config: Any = envs.preset(name, preset)
    distribution, env = make(name, preset, config.horizon)
    tasks = distribution.held_out(K)
    assert not rollout(env, tasks, torch.zeros_like(actions(env, K))).terminated.any()


@every_case
def test_a_block_of_tasks_draws_what_it_draws_in_the_whole(name: str, preset: str) -> None:
    distribution, env = make(name, preset)
    whole_tasks = distribution.sample(5, STREAMS)
    parts = (STREAMS, 2), (STREAMS.from_task(2), 3)
    blocks = [distribution.sample(num, streams) for streams, num in parts]
    assert_same_tasks(whole_tasks, join(*blocks))
    action = actions(env, 5)
    whole = rollout(env, whole_tasks, action)
    first = rollout(env, blocks[0], action[:2])
    second = rollout(env, blocks[1], action[2:], STREAMS.from_task(2))
    both = (torch.cat(pair) for pair in zip(first, second, strict=True))
    assert_same(whole, Rollout(*both))


def num_pinned(distribution: TaskDistribution) -> int:
    return min(40, distribution.num_held_out or 40)


@every_case
def test_a_shorter_held_out_list_is_the_start_of_a_longer_one(name: str, preset: str) -> None:
    distribution, _ = make(name, preset)
    longer = distribution.held_out(num_pinned(distribution))
    distribution.sample(5, Streams(5))
    torch.rand(3)
    for length in (1, 7, 20):
        assert_same_tasks(pick(longer, list(range(length))), make(name, preset)[0].held_out(length))


@every_case
def test_training_never_meets_a_held_out_task(name: str, preset: str) -> None:
    distribution, _ = make(name, preset)
    held_out = distribution.held_out(num_pinned(distribution))
    if "direction" in held_out.parameter:
        pytest.skip("there are two tasks in all")
    places = [Streams(0), *(Streams(seed, ("train", 0, "tasks")) for seed in range(8))]
    train = [distribution.sample(100, streams) for streams in places]
    for name_of_leaf, leaf in held_out.parameter.items():
        met = torch.cat([tasks.parameter[name_of_leaf] for tasks in train])
        same = met.reshape(len(met), 1, -1) == leaf.reshape(1, len(leaf), -1)
        assert not same.all(-1).any()
    ids = torch.cat([tasks.task_id for tasks in train]).unique()
    assert not torch.isin(held_out.task_id[held_out.task_id >= 0], ids).any()


@every_case
def test_the_held_out_list_is_pinned(name: str, preset: str) -> None:
    distribution, _ = make(name, preset)
    tasks = distribution.held_out(num_pinned(distribution))
    digest = hashlib.sha256()
    for leaf_name in sorted(tasks.parameter):
        digest.update(leaf_name.encode() + tasks.parameter[leaf_name].numpy().tobytes())
    digest.update(tasks.task_id.numpy().tobytes())
    assert digest.hexdigest() == HELD_OUT[name, preset]


@every_case
def test_a_finite_list_refuses_more_than_it_has(name: str, preset: str) -> None:
    distribution, _ = make(name, preset)
    if distribution.num_held_out is None:
        assert len(distribution.held_out(1000).task_id) == 1000
        return
    assert distribution.num_held_out == 30
    with pytest.raises(ValueError, match=r"30 held-out tasks, asked for 31"):
        distribution.held_out(31)


@pytest.mark.parametrize("name", ENVS)
def test_the_config_of_another_family_is_refused(name: str) -> None:
    for other, family in ENVS.items():
        if other != name:
            with pytest.raises(TypeError, match=family.config.__name__):
                envs.build(name, next(iter(family.presets.values())))


@every_case
def test_an_unknown_name_is_answered_with_the_nearest(name: str, preset: str) -> None:
    for wrong in (name.removeprefix("metarl/"), name.replace("-v", "v"), name + "x"):
        with pytest.raises(ValueError, match=f"did you mean '{name}'"):
            envs.build(wrong)
    with pytest.raises(ValueError, match=f"did you mean '{preset}'"):
        envs.preset(name, preset + "x")
    with pytest.raises(ValueError, match="known: "):
        envs.build("zzz")


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf, True, "3", None])
@every_case
def test_a_bad_number_is_refused_by_the_name_of_its_field(
    name: str, preset: str, wrong: object
) -> None:
    config: Any = envs.preset(name, preset)
    owner = type(config).__name__
    for field in fields(config):
        is_flag = isinstance(getattr(config, field.name), bool)
        if is_flag or (wrong == 0 and field.name in ("num_train_tasks", "num_test_tasks")):
            continue
        with pytest.raises(ValueError, match=rf"^{owner}\.{field.name} must be .*{wrong!r}"):
            replace(config, **{field.name: wrong})


def test_a_list_of_test_tasks_goes_with_one_of_training_tasks() -> None:
    config: Any = envs.preset("metarl/HalfCheetahVel-v0", "pearl-2019")
    for change in ({"num_train_tasks": 0}, {"num_test_tasks": 0}):
        with pytest.raises(ValueError, match=r"num_test_tasks must be 0 exactly when"):
            replace(config, **change)


@pytest.mark.xfail(strict=True, raises=OverflowError, reason="math.isfinite of a huge int raises")
def test_a_huge_whole_number_is_refused_like_any_other() -> None:
    config: Any = envs.preset("metarl/PointNavigation-v0")
    with pytest.raises(ValueError, match="horizon"):
        replace(config, horizon=10**400)
