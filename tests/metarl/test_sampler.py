"""The sampler: layout of a round, masks, scores, noise, and results that threads do not change."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from metarl import agents, envs
from metarl.sampler import action_noise, collect, scores
from metarl.seeding import Streams
from metarl.types import Acted, Adapted, EnvSpec, Step, Tasks, Trajectories

STREAMS = Streams(4, ("sampler",))
NEVER = 99
T = 5


class Script(NamedTuple):
    """What happens to each copy [K, E], and when; the time is counted from 0."""

    ends: Tensor
    faults: Tensor


class ScriptedEnv:
    """Counts steps: obs is (steps taken, task, episode); step t pays 10 k + e + t / 10."""

    def __init__(self, script: Script, threads: int = 1, **poison: tuple[int, int, int]) -> None:
        self.spec = EnvSpec("test/Scripted-v0", 3, 2, False, T, score_is_total=False)
        self.threads = threads
        self.torch_threads: list[int] = []
        self.ran: list[Tensor] = []
        self._script, self._poison = script, poison

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        place = torch.meshgrid(
            torch.arange(len(tasks.task_id)), torch.arange(episodes), indexing="ij"
        )
        self._place = torch.stack(place, -1).float()
        self._count = torch.zeros(len(tasks.task_id), episodes)
        self._time = 0
        return self._observe("start")

    def step(self, action: Tensor, running: Tensor) -> Step:
        time, self._time = self._time, self._time + 1
        self.torch_threads.append(torch.get_num_threads())
        self.ran.append(running.clone())
        self._count = self._count + running
        task, episode = self._place.unbind(-1)
        reward = 10 * task + episode + time / 10
        return Step(
            obs=self._observe("obs"),
            reward=self._poisoned(reward, "reward"),
            # Truthful for copies that run; for others anything may stand here but a fault.
            terminated=(self._script.ends == time) | ~running,
            faulty=(self._script.faults == time) & running,
        )

    def _observe(self, field: str) -> Tensor:
        obs = torch.cat((self._count[..., None], self._place), -1)
        return self._poisoned(obs, field)

    def _poisoned(self, values: Tensor, field: str) -> Tensor:
        task, episode, step = self._poison.get(field, (0, 0, NEVER))
        if self._time - (field != "start") == step:
            values[task, episode, ...] = math.nan
        return values


class EchoAgent:
    """Acts by its noise, and remembers how often it acted."""

    def begin(self, num_tasks: int, episodes: int) -> Adapted:
        return {"acts": torch.zeros(num_tasks)}

    def act(self, adapted: Adapted, obs: Tensor, noise: Tensor) -> Acted:
        return Acted(noise, obs[..., 0], {"acts": adapted["acts"] + 1})

    def adapt(self, adapted: Adapted, batch: Trajectories) -> Adapted:
        return adapted

    def meta_update(self, rounds: object) -> dict[str, float]:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        assert not state


# Task 0: time limit, end after 2 steps, end in the last step. Task 1: fault in the first and in the
# third step, and an end and a fault at once.
SCRIPT = Script(
    ends=torch.tensor([[NEVER, 1, T - 1], [NEVER, NEVER, 3]]),
    faults=torch.tensor([[NEVER, NEVER, NEVER], [0, 2, 3]]),
)
LENGTHS = [[5, 2, 5], [0, 2, 3]]
"""Steps under the mask."""


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def tasks(num_tasks: int) -> Tasks:
    return Tasks(torch.arange(num_tasks) + 7, {"nothing": torch.zeros(num_tasks)})


def sample(env: ScriptedEnv) -> tuple[Trajectories, Adapted]:
    agent = EchoAgent()
    return collect(env, tasks(2), agent, agent.begin(2, 3), 3, STREAMS)


def test_shapes_and_dtypes() -> None:
    batch, _ = sample(ScriptedEnv(SCRIPT))
    assert batch.obs.shape == (2, 3, T + 1, 3)
    assert batch.action.shape == (2, 3, T, 2)
    for name in ("log_prob", "reward", "terminated", "mask"):
        assert getattr(batch, name).shape == (2, 3, T), name
    assert batch.faulty.shape == (2, 3)
    assert {x.dtype for x in (batch.terminated, batch.mask, batch.faulty)} == {torch.bool}
    assert {x.dtype for x in (batch.obs, batch.reward, batch.log_prob)} == {torch.float32}
    assert batch.task_id.tolist() == [7, 8]


def test_an_observation_stands_before_the_step_that_it_led_to() -> None:
    batch, _ = sample(ScriptedEnv(SCRIPT))
    count = batch.obs[..., 0]
    assert count[0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert count[0, 1].tolist() == [0, 1, 2, 2, 2, 2]
    assert count[0, 2].tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.obs[1, 2, :, 1:].tolist() == [[1, 2]] * (T + 1)
    # The agent's log_prob is the count that it saw when it acted.
    assert torch.equal(batch.log_prob, count[..., :-1])


def test_masks_end_with_the_episode_and_before_a_fault() -> None:
    batch, _ = sample(ScriptedEnv(SCRIPT))
    expected = torch.arange(T) < torch.tensor(LENGTHS)[..., None]
    assert torch.equal(batch.mask, expected)


def test_terminated_marks_the_last_valid_step_alone() -> None:
    batch, _ = sample(ScriptedEnv(SCRIPT))
    ended = batch.terminated.nonzero().tolist()
    assert ended == [[0, 1, 1], [0, 2, T - 1]]
    assert not (batch.terminated & ~batch.mask).any()


def test_faulty_episodes_are_named() -> None:
    batch, _ = sample(ScriptedEnv(SCRIPT))
    assert batch.faulty.tolist() == [[False] * 3, [True] * 3]


def test_a_copy_is_not_stepped_after_its_end() -> None:
    env = ScriptedEnv(SCRIPT)
    sample(env)
    steps = torch.stack(env.ran).sum(0)
    assert steps.tolist() == [[5, 2, 5], [1, 3, 4]]


def test_rewards_are_the_environments_own_and_zero_off_the_mask() -> None:
    batch, _ = sample(ScriptedEnv(SCRIPT))
    place = torch.tensor([[0, 1, 2], [10, 11, 12]])[..., None]
    expected = (place + torch.arange(T) / 10) * batch.mask
    torch.testing.assert_close(batch.reward, expected)
    assert (batch.reward[~batch.mask] == 0).all()


def test_every_started_episode_counts_in_the_score() -> None:
    env = ScriptedEnv(SCRIPT)
    batch, _ = sample(env)
    # Returns 1.0, 2.1, 11.0 and 0 (cut before its first step), 22.1, 36.3.
    torch.testing.assert_close(scores(batch, env.spec), torch.tensor([14.1, 58.4]) / 3)
    total = env.spec._replace(score_is_total=True)
    torch.testing.assert_close(scores(batch, total), torch.tensor([14.1, 58.4]))


def test_what_the_agent_knows_is_carried_on() -> None:
    _, adapted = sample(ScriptedEnv(SCRIPT))
    assert adapted["acts"].tolist() == [T, T]


@pytest.mark.parametrize("discrete", [False, True])
def test_noise_does_not_depend_on_how_tasks_are_split(discrete: bool) -> None:
    spec = EnvSpec("test/Spec-v0", 3, 2, discrete, 7, False)
    whole = action_noise(spec, 5, 3, STREAMS)
    assert whole.shape == ((5, 3, 7) if discrete else (5, 3, 7, 2))
    parts = [(0, 2), (2, 1), (3, 2)]
    split = [action_noise(spec, num, 3, STREAMS.from_task(first)) for first, num in parts]
    assert torch.equal(torch.cat(split), whole)
    assert len(whole.flatten(1).unique(dim=0)) == 5
    if discrete:
        assert 0 <= whole.min() <= whole.max() < 1


def test_every_step_gets_noise_of_its_own() -> None:
    batch, _ = sample(ScriptedEnv(SCRIPT))
    assert torch.equal(batch.action, action_noise(ScriptedEnv(SCRIPT).spec, 2, 3, STREAMS))
    assert len(batch.action.unique()) == batch.action.numel()


@pytest.mark.parametrize("field", ["obs", "reward"])
def test_a_value_that_is_not_finite_is_named(field: str) -> None:
    env = ScriptedEnv(SCRIPT, **{field: (0, 2, 3)})
    with pytest.raises(FloatingPointError) as error:
        sample(env)
    message = str(error.value)
    for part in ("test/Scripted-v0", field, "task 0", "episode 2", "step "):
        assert part in message
    assert torch.get_num_threads() == 2


def test_a_start_that_is_not_finite_is_named() -> None:
    with pytest.raises(FloatingPointError, match=r"obs .* task 1, episode 0"):
        sample(ScriptedEnv(SCRIPT, start=(1, 0, 0)))


def test_the_step_named_is_the_one_that_went_wrong() -> None:
    for field in ("reward", "obs"):
        with pytest.raises(FloatingPointError, match=r"task 0, episode 2, step 3"):
            sample(ScriptedEnv(SCRIPT, **{field: (0, 2, 3)}))


def test_a_reward_that_nobody_earned_may_be_anything() -> None:
    batch, _ = sample(ScriptedEnv(SCRIPT, reward=(0, 1, 4)))
    assert torch.isfinite(batch.reward).all()


def test_what_a_faulty_step_led_to_may_be_anything() -> None:
    batch, _ = sample(ScriptedEnv(SCRIPT, reward=(1, 1, 2), obs=(1, 1, 2)))
    assert batch.faulty[1, 1]
    assert torch.isfinite(batch.obs).all()


@pytest.mark.parametrize(
    ("env_threads", "episodes", "torch_threads"), [(1, 512, 2), (1, 3, 1), (2, 512, 1)]
)
def test_torch_leaves_the_cores_to_the_physics_and_takes_them_back(
    env_threads: int, episodes: int, torch_threads: int
) -> None:
    never = torch.full((2, episodes), NEVER)
    env, agent = ScriptedEnv(Script(never, never), env_threads), EchoAgent()
    collect(env, tasks(2), agent, agent.begin(2, episodes), episodes, STREAMS)
    assert set(env.torch_threads) == {torch_threads}
    assert torch.get_num_threads() == 2


def cheetah_rounds(torch_threads: int, physics_threads: int) -> list[Trajectories]:
    """Two rounds of MAML with an adaptation in between."""
    name = "metarl/HalfCheetahDir-v0"
    config: Any = replace(envs.preset(name), horizon=20)  # type: ignore[arg-type]
    distribution, env = envs.build(name, config, threads=physics_threads)
    agent = agents.build("maml-trpo", env.spec, seed=1)
    torch.set_num_threads(torch_threads)
    tasks = distribution.sample(4, STREAMS)
    adapted, rounds = agent.begin(4, 3), []
    for number in range(2):
        batch, adapted = collect(env, tasks, agent, adapted, 3, STREAMS.at(number))
        assert torch.get_num_threads() == torch_threads
        adapted = agent.adapt(adapted, batch)
        rounds.append(batch)
    return rounds


def test_threads_do_not_change_a_bit() -> None:
    expected = cheetah_rounds(1, 1)
    assert expected[0].mask.all()
    # From four threads on, two lanes share the tasks.
    for threads in ((2, 1), (1, 2), (2, 2), (1, 4), (2, 5)):
        for one, other in zip(expected, cheetah_rounds(*threads), strict=True):
            for name, a, b in zip(Trajectories._fields, one, other, strict=True):
                assert torch.equal(a, b), (threads, name)


class TwoLanes(ScriptedEnv):
    """Has a scripted environment for each task, and notes in which order their steps begin."""

    def __init__(self, script: Script, log: list[str], name: str = "whole") -> None:
        super().__init__(script, threads=2)
        self.lanes: list[TwoLanes] = []
        if name == "whole":
            parts = [Script(script.ends[k : k + 1], script.faults[k : k + 1]) for k in (0, 1)]
            self.lanes = [TwoLanes(part, log, str(k)) for k, part in enumerate(parts)]
        self._log, self._name = log, name

    def start_step(self, action: Tensor, running: Tensor) -> None:
        self._log.append(f"start {self._name}")
        self._result = self.step(action, running)

    def finish_step(self) -> Step:
        self._log.append(f"finish {self._name}")
        return self._result


def test_lanes_give_the_round_of_the_whole_and_step_while_others_act() -> None:
    log: list[str] = []
    batch, after = sample(TwoLanes(SCRIPT, log))
    whole, whole_after = sample(ScriptedEnv(SCRIPT))
    # A lane counts its tasks from 0: what says "task" in the scripted observation and reward.
    task = torch.arange(2.0)[:, None, None]
    shifted = batch._replace(
        obs=torch.cat(
            (batch.obs[..., :1], batch.obs[..., 1:2] + task[..., None], batch.obs[..., 2:]), -1
        ),
        reward=batch.reward + 10.0 * task * batch.mask,
    )
    for name, a, b in zip(Trajectories._fields, shifted, whole, strict=True):
        assert torch.equal(a, b), name
    assert torch.equal(after["acts"], whole_after["acts"])
    assert log[:6] == ["start 0", "start 1", "finish 0", "start 0", "finish 1", "start 1"]


def test_tasks_that_lanes_cannot_share_evenly_go_to_the_whole() -> None:
    log: list[str] = []
    never = torch.full((3, 3), NEVER)
    env, agent = TwoLanes(Script(never, never), log), EchoAgent()
    collect(env, tasks(3), agent, agent.begin(3, 3), 3, STREAMS)
    assert not log
    assert len(env.ran) == T
