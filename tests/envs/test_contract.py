"""The contract of every environment in the table, in every published setting."""

import hashlib
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.envs import ENVS
from metarl.experiments.check.contract import check
from metarl.experiments.check.play import Subject, pick
from metarl.experiments.check.tasks import numbers
from metarl.protocols import CanRestart, TaskDistribution, VectorTaskEnv
from metarl.seeding import Streams
from metarl.types import Step, Tasks

CASES = [(name, preset) for name, family in ENVS.items() for preset in family.presets]
SPLITS = [
    (name, preset, split)
    for name, preset in CASES
    for split in envs.build(name, envs.preset(name, preset), threads=1)[0].held_out_lists
]
K, E, T = 3, 2, 8
STREAMS = Streams(11, ("contract",))

# SHA-256 of the first 40 tasks of each held-out list, or of the whole list where it is shorter. A
# difference here is another benchmark: give it a new version and leave these alone.
HELD_OUT = Path(__file__).with_name("held_out.sha256").read_text(encoding="utf-8").splitlines()

DETERMINISTIC = {
    *(
        ("metarl/PointNavigation-v0", preset)
        for preset in ("maml-2017", "pearl-2019", "pearl-2019-sparse", "varibad-2020")
    ),
    ("metarl/GridNavi-v0", "varibad-2020"),
    *(case for case in CASES if case[0] == "metarl/GridMaze-v0"),
}
"""Cases in which nothing is random once the task is given."""

RARE_REWARDS = {
    ("metarl/ReacherGoal-v0", "sparse"),
    *(
        ("metarl/PointNavigation-v0", preset)
        for preset in ("promp-2019", "pearl-2019-sparse", "varibad-2020")
    ),
}
"""Cases in which random actions need many tries, and time, to find a reward."""

NOISY_STEPS = {f"metarl/{name}-v0" for name in ("BernoulliBandit", "GaussianBandit", "TabularMDP")}
"""Environments that draw noise for every step: a copy that restarts meets it in another order."""

MAY_BE_0 = {
    "bonus",
    "control_cost",
    "lowest",
    "num_test_tasks",
    "num_train_tasks",
    "step_cost",
}
"""Numbers that may be 0 in every family, though no preset of some has it so."""

every_case = pytest.mark.parametrize(("name", "preset"), CASES)


def make(name: str, preset: str, horizon: int = T) -> tuple[TaskDistribution, VectorTaskEnv]:
    config: Any = envs.preset(name, preset)
    return envs.build(name, replace(config, horizon=horizon), threads=1)


def actions(env: VectorTaskEnv, num_tasks: int, streams: Streams = STREAMS) -> Tensor:
    size, shape = env.spec.action_size, (E, env.spec.horizon)
    if env.spec.discrete:
        return (streams.uniform("test actions", num_tasks, shape) * size).long()
    return streams.normal("test actions", num_tasks, (*shape, size))


def tries(name: str, preset: str) -> tuple[int, list[Streams]]:
    """A horizon, and the streams of random actions that show how two tasks differ."""
    if (name, preset) in RARE_REWARDS:
        return 200, [STREAMS.at(number) for number in range(40)]
    return 40, [STREAMS]


def rollout(env: VectorTaskEnv, tasks: Tasks, action: Tensor, streams: Streams = STREAMS) -> Step:
    """A whole episode of every copy, as one step with T (for obs T + 1) on axis 2."""
    running = torch.ones(len(tasks.task_id), E, dtype=torch.bool)
    seen, steps = [env.reset(tasks, E, streams).clone()], []
    for now in action.unbind(2):
        steps.append(env.step(now, running))
        seen.append(steps[-1].obs.clone())
    columns = dict(zip(Step._fields, zip(*steps, strict=True), strict=True))
    if columns["success"][0] is None:
        del columns["success"]
    stacked = {name: torch.stack(leaves, 2) for name, leaves in columns.items()}
    return Step(**stacked | {"obs": torch.stack(seen, 2)})


def assert_same(one: Step, other: Step) -> None:
    for name, a, b in zip(Step._fields, one, other, strict=True):
        if a is None or b is None:
            assert a is b, name
        else:
            assert torch.equal(a, b), name


def first_held_out(distribution: TaskDistribution, split: str = "test") -> Tasks:
    return distribution.held_out(min(40, distribution.held_out_lists[split] or 40), split)


@every_case
def test_the_rules_for_everyones_tasks_hold(name: str, preset: str) -> None:
    config: Any = envs.preset(name, preset)
    subject = Subject(*make(name, preset, config.horizon), ENVS[name].shows)
    assert [f for f in check(subject) if f.problem or f.note or not f.checked] == []


@every_case
def test_spec_and_tasks_say_what_the_config_says(name: str, preset: str) -> None:
    config: Any = envs.preset(name, preset)
    distribution, env = envs.build(name, config, threads=1)
    tasks = distribution.sample(K, STREAMS)
    assert env.spec.name == name == envs.name_of(config)
    assert env.spec.horizon == config.horizon
    assert env.threads == 1
    assert (tasks.task_id.shape, tasks.task_id.dtype) == ((K,), torch.int64)
    assert tasks.parameter
    assert all((len(x), x.dtype) == (K, torch.float32) for x in tasks.parameter.values())
    assert env.spec.discrete or env.spec.action_limit > 0


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
    if (name, preset) in DETERMINISTIC:
        assert_same(one, other)
        return
    rows = torch.cat((one.reward, one.obs.flatten(3)[..., 0]), -1).flatten(0, 1)
    others = torch.cat((other.reward, other.obs.flatten(3)[..., 0]), -1).flatten(0, 1)
    assert not torch.equal(rows, others)
    assert len({tuple(row.tolist()) for row in rows}) == len(rows)


@every_case
def test_tasks_differ_in_what_they_are_and_pay(name: str, preset: str) -> None:
    horizon, walks = tries(name, preset)
    distribution, env = make(name, preset, horizon)
    tasks, others = (distribution.sample(16, Streams(seed, ("train",))) for seed in (0, 1))
    for leaf_name, leaf in tasks.parameter.items():
        num_different = len(torch.unique(leaf, dim=0))
        few = (tasks.task_id >= 0).any() or torch.equal(leaf, leaf.round())
        assert num_different >= 2 if few else num_different >= 14
        assert not torch.equal(leaf, others.parameter[leaf_name])
    assert (tasks.task_id >= 0).any() or len(torch.unique(numbers(tasks), dim=0)) >= 14
    held_out = distribution.held_out(2)
    for walk in walks:
        action = actions(env, 1, walk)
        one, other = (rollout(env, pick(held_out, [k]), action) for k in range(2))
        begun = ENVS[name].shows == "start" and not torch.equal(one.obs, other.obs)
        if begun or not torch.equal(one.reward, other.reward):
            return
    pytest.fail("both tasks pay the same")


@every_case
def test_the_time_limit_is_not_a_termination(name: str, preset: str) -> None:
    distribution, env = make(name, preset, 3)
    tasks = distribution.held_out(K)
    assert not rollout(env, tasks, torch.zeros_like(actions(env, K))).terminated.any()


@pytest.mark.parametrize(("name", "preset", "split"), SPLITS)
def test_the_held_out_lists_are_pinned(name: str, preset: str, split: str) -> None:
    distribution, _ = make(name, preset)
    tasks = first_held_out(distribution, split)
    digest = hashlib.sha256()
    for leaf_name in sorted(tasks.parameter):
        digest.update(leaf_name.encode() + tasks.parameter[leaf_name].numpy().tobytes())
    digest.update(tasks.task_id.numpy().tobytes())
    case = f"{name.removeprefix('metarl/')} {preset} {split}"
    expected = f"{digest.hexdigest()} {case}"
    assert expected in HELD_OUT, f"expected among the pinned lists: {expected}"


@pytest.mark.parametrize(("name", "preset", "split"), SPLITS)
def test_a_finite_list_refuses_more_than_it_has(name: str, preset: str, split: str) -> None:
    distribution, _ = make(name, preset)
    length = distribution.held_out_lists[split]
    if length is None:
        assert len(distribution.held_out(1000, split).task_id) == 1000
        return
    with pytest.raises(ValueError, match=rf"{length} .* tasks, asked for {length + 1}"):
        distribution.held_out(length + 1, split)


@every_case
def test_an_unknown_split_is_answered_with_the_nearest(name: str, preset: str) -> None:
    with pytest.raises(ValueError, match=r"did you mean 'test'\? known: test"):
        make(name, preset)[0].held_out(1, "tests")


@every_case
def test_some_copies_may_restart_while_the_others_go_on(name: str, preset: str) -> None:
    distribution, env = make(name, preset, horizon=4)
    assert isinstance(env, CanRestart)
    tasks, action, running = distribution.held_out(K), actions(env, K), torch.ones(K, E).bool()
    copies = torch.tensor([[True, False], [False, False], [True, True]])
    alone = rollout(env, tasks, action)
    fresh = rollout(env, tasks, action, STREAMS.at("restart"))
    env.reset(tasks, E, STREAMS)
    for time in range(2):
        env.step(action[:, :, time], running)
    obs = env.restart(copies, STREAMS.at("restart"))
    assert torch.equal(obs[copies], fresh.obs[:, :, 0][copies])
    assert torch.equal(obs[~copies], alone.obs[:, :, 2][~copies])
    for time in range(2):
        now = torch.where(
            copies[..., None] if action.ndim == 4 else copies,
            action[:, :, time],
            action[:, :, time + 2],
        )
        step = env.step(now, running)
        assert torch.equal(step.obs[~copies], alone.obs[:, :, time + 3][~copies])
        assert torch.equal(step.reward[~copies], alone.reward[:, :, time + 2][~copies])
        if env.spec.name not in NOISY_STEPS:
            assert torch.equal(step.obs[copies], fresh.obs[:, :, time + 1][copies])
            assert torch.equal(step.reward[copies], fresh.reward[:, :, time][copies])


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
        value = getattr(config, field.name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        presets = ENVS[name].presets.values()
        may_be_0 = any(getattr(other, field.name) == 0 for other in presets)
        may_be_0 |= field.name in MAY_BE_0
        if not is_number or (wrong == 0 and may_be_0):
            continue
        with pytest.raises(ValueError, match=rf"^{owner}\.{field.name} must be .*{wrong!r}"):
            replace(config, **{field.name: wrong})
