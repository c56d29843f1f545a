"""The sampler: layout of a round, masks, scores, noise."""

import pytest
import torch

from metarl.sampler import action_noise, scores
from metarl.types import EnvSpec
from tests.metarl.scripted import (
    LENGTHS,
    NEVER,
    SCRIPT,
    STREAMS,
    Script,
    ScriptedEnv,
    T,
    sample,
)


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
    assert torch.equal(batch.log_prob, count[..., :-1] * batch.mask)


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


def test_success_is_to_be_at_the_goal_after_any_step_under_the_mask() -> None:
    """Lengths are 5, 2, 5 and 0, 2, 3; a fault or an end cuts off what comes later."""
    reaches = torch.tensor([[2, 2, T - 1], [0, 1, 3]])
    batch, _ = sample(ScriptedEnv(SCRIPT._replace(reaches=reaches)))
    assert batch.success.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert batch.success.dtype == torch.int8


def test_without_a_goal_there_is_neither_success_nor_failure() -> None:
    batch, _ = sample(ScriptedEnv(SCRIPT))
    assert batch.success.tolist() == [[-1] * 3] * 2


def test_a_copy_is_not_stepped_after_its_end() -> None:
    env = ScriptedEnv(SCRIPT)
    sample(env)
    steps = torch.stack(env.ran).sum(0)
    assert steps.tolist() == [[5, 2, 5], [1, 3, 4]]


def test_nothing_happens_after_the_last_copys_end() -> None:
    ends = torch.tensor([[0, 1, 1], [1, NEVER, 0]])
    faults = torch.full_like(ends, NEVER)
    faults[1, 1] = 1
    env = ScriptedEnv(Script(ends, faults))
    batch, adapted = sample(env)
    assert len(env.ran) == 2
    assert adapted["acts"].tolist() == [2, 2]
    # Each copy's record is what it is beside one that goes on to the end.
    ends[0, 0] = NEVER
    longer, _ = sample(ScriptedEnv(Script(ends, faults)))
    for name, column in batch._asdict().items():
        beside = getattr(longer, name)
        assert column.shape == beside.shape, name
        assert torch.equal(column[1], beside[1]), name
        assert name == "task_id" or torch.equal(column[0, 1:], beside[0, 1:]), name


def test_every_column_is_zero_off_the_mask() -> None:
    batch, _ = sample(ScriptedEnv(SCRIPT))
    for name in ("action", "log_prob", "reward", "terminated"):
        column = getattr(batch, name)
        assert not column[~batch.mask].any(), name
        assert column[batch.mask].any(), name


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
    assert len(torch.unique(whole.flatten(1), dim=0)) == 5
    if discrete:
        assert 0 <= whole.min() <= whole.max() < 1


def test_every_step_gets_noise_of_its_own() -> None:
    batch, _ = sample(ScriptedEnv(SCRIPT))
    noise = action_noise(ScriptedEnv(SCRIPT).spec, 2, 3, STREAMS)
    assert torch.equal(batch.action, noise * batch.mask[..., None])
    assert len(torch.unique(noise)) == noise.numel()


@pytest.mark.parametrize("field", ["obs", "reward"])
def test_a_value_that_is_not_finite_is_named(field: str) -> None:
    env = ScriptedEnv(SCRIPT, 1, **{field: (0, 2, 3)})
    with pytest.raises(FloatingPointError) as error:
        sample(env)
    message = str(error.value)
    for part in ("test/Scripted-v0", field, "task 0", "episode 2", "step "):
        assert part in message


def test_a_start_that_is_not_finite_is_named() -> None:
    with pytest.raises(FloatingPointError, match=r"obs .* task 1, episode 0"):
        sample(ScriptedEnv(SCRIPT, start=(1, 0, 0)))


def test_the_step_named_is_the_one_that_went_wrong() -> None:
    for field in ("reward", "obs"):
        with pytest.raises(FloatingPointError, match=r"task 0, episode 2, step 3"):
            sample(ScriptedEnv(SCRIPT, 1, **{field: (0, 2, 3)}))


def test_a_reward_that_nobody_earned_may_be_anything() -> None:
    batch, _ = sample(ScriptedEnv(SCRIPT, reward=(0, 1, 4)))
    assert torch.isfinite(batch.reward).all()


def test_what_a_faulty_step_led_to_may_be_anything() -> None:
    batch, _ = sample(ScriptedEnv(SCRIPT, reward=(1, 1, 2), obs=(1, 1, 2)))
    assert batch.faulty[1, 1]
    assert torch.isfinite(batch.obs).all()
