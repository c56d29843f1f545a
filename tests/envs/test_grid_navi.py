"""GridNavi by hand, and what can be reached on it against an exhaustive search."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch

from metarl import envs
from metarl.envs.drawing import AGENT, GOAL
from metarl.envs.grid_navi import MOVES, GridNaviConfig, goal_cells
from metarl.envs.grid_navi_ceilings import bayes_optimal, best_search, new_trial, told_the_goal
from metarl.protocols import CanDraw
from metarl.seeding import Streams
from metarl.types import Step, Tasks

NAME = "metarl/GridNavi-v0"
STREAMS = Streams(4, ("grid",))
Plan: TypeAlias = Callable[[int, tuple[int, int]], int]
"""(step of the trial, cell) to an action."""

STAY, UP, RIGHT, DOWN, LEFT = range(5)


def goals(*cells: tuple[int, int]) -> Tasks:
    return Tasks(torch.full((len(cells),), -1), {"goal": torch.tensor(cells).float()})


def walk(env: Any, *actions: int) -> list[Step]:
    return [env.step(torch.tensor([[a]]), torch.ones(1, 1, dtype=torch.bool)) for a in actions]


def cells(steps: list[Step]) -> list[list[float]]:
    return [step.obs[0, 0].tolist() for step in steps]


def test_moves_and_edges() -> None:
    _, env = envs.build(NAME)
    assert env.reset(goals((4, 4)), 1, STREAMS).tolist() == [[[0, 0]]]
    steps = walk(env, DOWN, LEFT, UP, STAY, RIGHT, RIGHT, DOWN, LEFT)
    assert cells(steps) == [[0, 0], [0, 0], [0, 1], [0, 1], [1, 1], [2, 1], [2, 0], [1, 0]]
    assert cells(walk(env, *[RIGHT] * 5))[-2:] == [[4, 0], [4, 0]]
    assert cells(walk(env, *[UP] * 5))[-2:] == [[4, 4], [4, 4]]


def test_every_step_on_the_goal_pays_1_and_every_other_one_costs_a_tenth() -> None:
    _, env = envs.build(NAME)
    env.reset(goals((0, 2)), 1, STREAMS)
    steps = walk(env, UP, UP, STAY, RIGHT, LEFT, LEFT)
    rewards = [step.reward.item() for step in steps]
    assert rewards == pytest.approx([-0.1, 1, 1, -0.1, 1, 1])
    assert [bool(step.success) for step in steps] == [False, True, True, False, True, True]
    assert not any(step.terminated.any() for step in steps)


def test_goals_are_the_cells_outside_the_corner_and_each_is_as_likely() -> None:
    distribution, env = envs.build(NAME)
    assert (env.spec.horizon, env.spec.action_size, env.spec.discrete) == (15, 5, True)
    listed = distribution.held_out(21).parameter["goal"].long().tolist()
    outside = {(x, y) for x in range(5) for y in range(5)} - {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert len(listed) == len(outside) == 21
    assert {tuple(cell) for cell in listed} == outside
    drawn = distribution.sample(21_000, STREAMS)
    counts = drawn.task_id.bincount(minlength=21)
    assert (counts - 1000).abs().max() < 5 * 1000**0.5
    # Chi-square with 20 degrees of freedom: mean 20, standard deviation 6.3.
    assert ((counts - 1000.0) ** 2 / 1000).sum() < 52


def test_the_parameter_refuses_the_corner() -> None:
    fault = envs.build(NAME)[0].parameters["goal"].fault
    assert fault is not None
    assert fault(torch.tensor([1.0, 2.0])) is None
    assert "[1.0, 1.0]" in str(fault(torch.tensor([1.0, 1.0])))


def test_the_picture_shows_goal_and_walker_with_y_upwards() -> None:
    _, env = envs.build(NAME)
    assert isinstance(env, CanDraw)
    env.reset(goals((3, 1)), 1, STREAMS)
    walk(env, UP, UP, UP)
    image = env.picture(0, 0)
    assert (image.shape, image.dtype) == ((201, 201, 3), np.dtype(np.uint8))
    # Middles of the cells, 40 pixels a cell, rows from the top.
    assert tuple(image[200 - 60, 140]) == GOAL
    assert tuple(image[200 - 140, 20]) == AGENT
    assert tuple(image[200 - 20, 20]) != AGENT


def exhaustive(side: int, horizon: int, episodes: int) -> tuple[int, ...]:
    """The best there is over every policy: all actions, any belief, at the goal or before it.

    Steps at the goal summed over the goals, in all and then by episode; policies are compared by
    the first of these in which they differ.
    """
    nothing = (0,) * (episodes + 1)

    def plus(*values: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(map(sum, zip(*values, strict=True)))

    def one_in(episode: int) -> tuple[int, ...]:
        return (1, *(int(number == episode) for number in range(episodes)))

    def ends(cell: tuple[int, int]) -> list[tuple[int, int]]:
        return [
            (min(max(cell[0] + dx, 0), side - 1), min(max(cell[1] + dy, 0), side - 1))
            for dx, dy in MOVES
        ]

    def begun(step: int, cell: tuple[int, int]) -> tuple[int, int]:
        return (0, 0) if step % horizon == 0 else cell

    @cache
    def known(step: int, cell: tuple[int, int], goal: tuple[int, int]) -> tuple[int, ...]:
        if step == horizon * episodes:
            return nothing
        options = []
        for end in ends(begun(step, cell)):
            pay = one_in(step // horizon) if end == goal else nothing
            options.append(plus(pay, known(step + 1, end, goal)))
        return max(options)

    @cache
    def unknown(
        step: int, cell: tuple[int, int], unseen: frozenset[tuple[int, int]]
    ) -> tuple[int, ...]:
        if step == horizon * episodes:
            return nothing
        options = []
        for end in ends(begun(step, cell)):
            later = unknown(step + 1, end, unseen - {end})
            if end in unseen:
                later = plus(one_in(step // horizon), known(step + 1, end, end), later)
            options.append(later)
        return max(options)

    return unknown(0, (0, 0), frozenset(goal_cells(side)))


@pytest.mark.parametrize(
    ("side", "horizon", "episodes"),
    [(3, 1, 2), (3, 2, 3), (3, 3, 3), (3, 4, 1), (3, 5, 3), (3, 6, 2), (3, 8, 4), (4, 6, 2)],
)
def test_the_search_finds_what_an_exhaustive_search_finds(
    side: int, horizon: int, episodes: int
) -> None:
    trial = new_trial(side, horizon, episodes)
    by_episode = trial.steps_at_goal(best_search(trial)).sum(0)
    total, *each = exhaustive(side, horizon, episodes)
    assert (by_episode.sum(), by_episode.tolist()) == (total, each)


def test_a_search_of_one_episode_by_hand() -> None:
    # Side 3, 4 steps: up, up, right, right meets goals at steps 2, 3 and 4 for 3 + 2 + 1 steps.
    trial = new_trial(3, 4, 1)
    found = best_search(trial)
    assert trial.steps_at_goal(found).sum() == 6
    assert sorted(found) == [-1, -1, 1, 2, 3]
    config = GridNaviConfig(side=3, horizon=4)
    returns = bayes_optimal(config, goals(*goal_cells(3)), 1, STREAMS)
    assert sorted(returns[:, 0].tolist()) == pytest.approx([-0.4, -0.4, 0.7, 1.8, 2.9])


def test_what_who_is_told_the_goal_gets() -> None:
    config = GridNaviConfig()
    returns = told_the_goal(config, goals((2, 0), (4, 4)), 3, STREAMS)
    # One step at -0.1 and 14 at 1; seven at -0.1 and eight at 1.
    torch.testing.assert_close(returns, torch.tensor([[13.9] * 3, [7.3] * 3]))
    short = told_the_goal(GridNaviConfig(horizon=4), goals((4, 4), (2, 2)), 1, STREAMS)
    torch.testing.assert_close(short, torch.tensor([[-0.4], [0.7]]))


def toward(cell: tuple[int, int], goal: tuple[int, int]) -> int:
    """The first action of a shortest path, columns first."""
    if cell[0] != goal[0]:
        return RIGHT if goal[0] > cell[0] else LEFT
    if cell[1] != goal[1]:
        return UP if goal[1] > cell[1] else DOWN
    return STAY


def trial_returns(
    plan: Callable[[int, tuple[int, int]], int], goal: tuple[int, int]
) -> list[float]:
    """Four episodes of the environment itself, of who follows a plan until the goal is met."""
    _, env = envs.build(NAME)
    known, returns = False, []
    for episode in range(4):
        env.reset(goals(goal), 1, STREAMS)
        cell, total = (0, 0), 0.0
        for time in range(15):
            action = toward(cell, goal) if known else plan(15 * episode + time, cell)
            (step,) = walk(env, action)
            x, y = step.obs[0, 0].long().tolist()
            cell, total = (x, y), total + step.reward.item()
            known = known or step.reward.item() == 1.0
        returns.append(total)
    return returns


def test_the_published_trial_can_be_walked_as_the_search_says() -> None:
    found = best_search(new_trial(5, 15, 4))
    plan_of = sorted(zip(found.tolist(), goal_cells(5), strict=True))
    assert all(step >= 0 for step, _ in plan_of)

    def plan(step: int, cell: tuple[int, int]) -> int:
        return toward(cell, next((goal for when, goal in plan_of if when >= step), cell))

    distribution, _ = envs.build(NAME)
    tasks = distribution.held_out(21)
    expected = bayes_optimal(GridNaviConfig(), tasks, 4, STREAMS)
    walked = torch.tensor([trial_returns(plan, goal) for goal in goal_cells(5)])
    torch.testing.assert_close(walked, expected, atol=1e-4, rtol=0)


def test_who_knows_the_family_needs_one_episode_and_a_half_of_the_published_trial() -> None:
    tasks = envs.build(NAME)[0].held_out(21)
    row = envs.ENVS[NAME].ceilings
    optimal, told = (
        row[name](GridNaviConfig(), tasks, 4, STREAMS)
        for name in ("Bayes-optimal", "told the goal")
    )
    assert optimal.shape == told.shape == (21, 4)
    # 14 goals are met at steps 2 to 15 of the first episode: 14 + 13 + ... + 1 steps at the goal.
    assert optimal[:, 0].mean().item() == pytest.approx(-1.5 + 1.1 * 105 / 21, abs=1e-5)
    # Each other one is met in the second at the step at which who is told of it gets there.
    torch.testing.assert_close(optimal[:, 1:], told[:, 1:])
    assert told[:, 0].mean().item() == pytest.approx(-1.5 + 1.1 * 240 / 21, abs=1e-5)
    assert (optimal <= told + 1e-5).all()


def test_user_goals_come_in_any_order() -> None:
    all_tasks = envs.build(NAME)[0].held_out(21)
    whole = bayes_optimal(GridNaviConfig(), all_tasks, 4, STREAMS)
    some = bayes_optimal(GridNaviConfig(), goals((4, 4), (0, 2)), 4, STREAMS)
    places = [goal_cells(5).index(cell) for cell in ((4, 4), (0, 2))]
    assert torch.equal(some, whole[places])


def test_a_grid_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match=r"GridNaviConfig\.side must be at most 8 .* got 9"):
        new_trial(9, 15, 4)
