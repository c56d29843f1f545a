"""What a round teaches where nothing was found, and where one episode found something."""

import torch

from metarl.adaptation import AdvantageConfig, Lesson, prepare
from metarl.types import EnvSpec, Trajectories
from tests.conftest import random_lesson

TASKS, EPISODES, HORIZON = 2, 20, 81


def wandering(found: bool) -> Trajectories:
    """Episodes that cost the same at each step; in task 0, one may have found the goal halfway."""
    generator = torch.Generator().manual_seed(0)
    shape = (TASKS, EPISODES, HORIZON)
    mask, terminated = torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    reward = torch.full(shape, -0.04)
    if found:
        mask[0, 3, 41:] = False
        terminated[0, 3, 40] = True
        reward[0, 3, 40] += 1.0
    return Trajectories(
        task_id=torch.full((TASKS,), -1),
        obs=torch.rand(TASKS, EPISODES, HORIZON + 1, 4, generator=generator).round(),
        action=torch.zeros(shape, dtype=torch.int64),
        log_prob=torch.zeros(shape),
        reward=reward * mask,
        terminated=terminated,
        mask=mask,
        faulty=torch.zeros(shape[:2], dtype=torch.bool),
        success=torch.full(shape[:2], -1, dtype=torch.int8),
    )


def test_where_nothing_was_found_the_misfit_of_the_baseline_is_no_advantage() -> None:
    advantage = prepare(wandering(found=False), AdvantageConfig()).advantage
    assert advantage.std(correction=0) < 0.3


def test_small_differences_between_returns_are_still_news() -> None:
    batch = wandering(found=False)
    noise = torch.randn(batch.reward.shape, generator=torch.Generator().manual_seed(1))
    advantage = prepare(batch._replace(reward=batch.reward + 0.005 * noise), AdvantageConfig())
    torch.testing.assert_close(
        advantage.advantage.std((1, 2)), torch.ones(TASKS), atol=0.01, rtol=0
    )


def test_one_find_is_news_to_its_task_alone() -> None:
    advantage = prepare(wandering(found=True), AdvantageConfig()).advantage
    assert advantage[0].std() > 0.9
    assert advantage[0, 3, 40] > 3.0
    assert advantage[1].std() < 0.3


def until(lesson: Lesson, *longest: int) -> Lesson:
    """Cut each task's episodes off after so many steps."""
    time = torch.arange(lesson.mask.shape[-1])
    return lesson._replace(mask=lesson.mask & (time < torch.tensor(longest)[:, None, None]))


def test_steps_that_no_episode_has_reached_are_dropped_and_no_other() -> None:
    whole = random_lesson((TASKS, 3, 9), EnvSpec("test", 2, 2, False, 9, False), seed=0)
    lesson = until(whole, 4, 6)
    cut = lesson.to_longest_episode()
    for name, before, after in zip(Lesson._fields, lesson, cut, strict=True):
        assert torch.equal(before[:, :, :6], after), name
        assert after.shape[2] == 6, name
    assert all(map(torch.equal, whole, whole.to_longest_episode()))


def test_a_round_without_a_step_keeps_one() -> None:
    lesson = random_lesson((TASKS, 3, 9), EnvSpec("test", 2, 2, False, 9, False), seed=0)
    assert until(lesson, 0, 0).to_longest_episode().mask.shape == (TASKS, 3, 1)
