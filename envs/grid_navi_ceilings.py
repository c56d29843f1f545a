"""What can be reached on GridNavi, exactly: by who knows the family, and by who knows the goal.

A trial is M episodes of H steps on one task. Who knows the family believes that the goal is equally
likely in every cell not yet seen, until it is seen. From then on the best is plain: stay, and in
later episodes go there by a shortest path. Until then nothing but the cells seen matters, so the
Bayes-optimal policy is one fixed walk, left where it meets the goal. It is searched for here.

Letters. d is the number of steps from the start to a goal, e an episode from 0 on, t a step from 1
on. Every step at the goal is worth 1.1 more than one elsewhere; counted are the steps there. A goal
first met at step t of episode e gives H - t + 1 of them in that episode, none before and
max(H - d + 1, 0) in each later one.

Search. All walks go on together, step by step; of those that are in the same cell and have seen the
same cells, the best is kept. Staying is left out: without it, all that follows comes earlier. A
walk is dropped when it could not come up to one that was found before, even if from now on it met a
new goal at every step t that has the parity of d and is not below it. The best walk nearly does, so
that few are left: some hundreds on the 5 x 5 grid. Nothing is approximate: a walk that could become
the best one is never dropped.

Of walks of equal total, the one that has more in the first episode counts as best, then in the
second, and so on: this makes the mean return of each episode unique.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.checks import InputError
from metarl.envs.grid_navi import AT_GOAL, ELSEWHERE, MOVES, GridNaviConfig, goal_cells
from metarl.seeding import Streams
from metarl.types import Tasks

Ints: TypeAlias = NDArray[np.int64]

_LARGEST_SIDE = 8  # cells seen are the bits of an int64
_MOST_WALKS = 1_000_000
_FIRST_TRY = 2000
"""Walks that are kept in the search for a good one, whose total then lets others be dropped."""


class Trial(NamedTuple):
    """The search problem. G goals, indexed as ``goal_cells`` lists them; C cells, x * side + y."""

    horizon: int
    episodes: int
    neighbours: Ints
    """[C, 4] the cell that each move leads to, the same one at the edge."""
    goal: Ints
    """[C] the goal in each cell; -1 where none can be."""
    distance: Ints
    """[G] d."""

    def steps_at_goal(self, found: Ints) -> Ints:
        """Return how many steps of each episode are spent at the goal, [..., episodes].

        ``found`` [...] is the step of the trial, counted from 0, at which goal g (on the last axis)
        is first met; -1 where it never is. The result has an axis more.
        """
        episode, step = found[..., None] // self.horizon, found[..., None] % self.horizon
        later = np.maximum(self.horizon - self.distance + 1, 0)[..., None]
        number = np.arange(self.episodes)
        here = np.where(number == episode, self.horizon - step, 0)
        steps: Ints = np.where(number > episode, later, here)
        return steps * (found[..., None] >= 0)


class Walks(NamedTuple):
    """S walks so far."""

    cell: Ints
    """[S] where they are."""
    seen: Ints
    """[S] the goals that they have met, as bits."""
    found: Ints
    """[S, G] the step of the trial at which they met each goal; -1 for not yet."""
    worth: Ints
    """[S, M] steps at the goal in each episode, summed over the goals met."""

    def take(self, rows: Ints | NDArray[np.bool_]) -> "Walks":
        """Return some of the walks."""
        return Walks(*(column[rows] for column in self))


def new_trial(side: int, horizon: int, episodes: int) -> Trial:
    """Return the search problem of a grid.

    Raises:
        InputError: the grid is too large.
    """
    if side > _LARGEST_SIDE:
        raise InputError(
            [f"GridNaviConfig.side must be at most {_LARGEST_SIDE} for this ceiling, got {side}"]
        )
    goals = goal_cells(side)
    x, y = np.divmod(np.arange(side * side), side)
    ends = [(x + dx, y + dy) for dx, dy in MOVES if dx or dy]
    columns = [np.clip(a, 0, side - 1) * side + np.clip(b, 0, side - 1) for a, b in ends]
    goal = np.full(side * side, -1)
    goal[[a * side + b for a, b in goals]] = np.arange(len(goals))
    distance = np.array([a + b for a, b in goals])
    return Trial(horizon, episodes, np.stack(columns, 1), goal, distance)


def best_search(trial: Trial) -> Ints:
    """Return when the Bayes-optimal policy first meets each goal, [G]: a step of the trial, from 0.

    -1 for a goal that it never meets.

    Raises:
        InputError: too many walks would have to be kept.
    """
    bounds = [_bound(trial, parity) for parity in (0, 1)]
    first_try = _search(trial, bounds, at_least=0, width=_FIRST_TRY)
    found: Ints = _search(trial, bounds, at_least=int(first_try.worth.sum())).found[0]
    return found


def _search(trial: Trial, bounds: list["_Bound"], at_least: int, width: int | None = None) -> Walks:
    """Return the best walk, as the only one; with a ``width`` a good one, perhaps not the best."""
    num_goals = len(trial.distance)
    zero = np.zeros(1, dtype=np.int64)
    found, worth = np.full((1, num_goals), -1), np.zeros((1, trial.episodes), dtype=np.int64)
    walks = Walks(zero, zero, found, worth)
    for step in range(trial.episodes * trial.horizon):
        if step % trial.horizon == 0:
            walks = walks._replace(cell=np.zeros_like(walks.cell))
        walks = _best_of_equals(_advance(trial, walks, step))
        optimistic = walks.worth.sum(1) + sum(bound.rest(walks.seen, step) for bound in bounds)
        keep = np.flatnonzero(optimistic >= at_least)
        if width is not None:
            keep = keep[np.argsort(-optimistic[keep], kind="stable")[:width]]
        elif len(keep) > _MOST_WALKS:
            raise InputError(
                [
                    f"this ceiling keeps at most {_MOST_WALKS} walks, which are not enough for"
                    f" {num_goals} goals and {trial.horizon} steps: lower GridNaviConfig.side"
                ]
            )
        walks = walks.take(keep)
    order = np.lexsort((*-walks.worth.T[::-1], -walks.worth.sum(1)))
    return walks.take(order[:1])


def _advance(trial: Trial, walks: Walks, step: int) -> Walks:
    """Return every walk gone on to every neighbour, by step ``step`` of the trial."""
    # What each goal is worth that is first met now, [G, M].
    worth_now = trial.steps_at_goal(np.full(len(trial.distance), step))
    moved = []
    for direction in trial.neighbours.T:
        able = np.flatnonzero(direction[walks.cell] != walks.cell)
        cell, seen, found, worth = walks.take(able)
        cell = direction[cell]
        goal = trial.goal[cell]
        new = np.flatnonzero((goal >= 0) & (seen >> np.maximum(goal, 0) & 1 == 0))
        seen[new] |= np.int64(1) << goal[new]
        found[new, goal[new]] = step
        worth[new] += worth_now[goal[new]]
        moved.append(Walks(cell, seen, found, worth))
    return Walks(*(np.concatenate(column) for column in zip(*moved, strict=True)))


def _best_of_equals(walks: Walks) -> Walks:
    """Keep the best of the walks that are in the same cell and have seen the same."""
    worth = walks.worth
    walks = walks.take(np.lexsort((*-worth.T[::-1], -worth.sum(1), walks.seen, walks.cell)))
    same = (np.diff(walks.cell) == 0) & (np.diff(walks.seen) == 0)
    return walks.take(np.concatenate(([True], ~same)))


class _Bound(NamedTuple):
    """What the goals of one parity of d may be worth at most, by how many of each d are left."""

    table: Ints
    """[M * H, n]: after each step of the trial, for every way to have goals left."""
    weight: Ints
    """[G] what a goal that is left adds to the place in the table; 0 for the other parity."""

    def rest(self, seen: Ints, step: int) -> Ints:
        """Return the bound for walks that have met ``seen`` [S] after a step, [S]."""
        place = np.zeros_like(seen)
        for goal in np.flatnonzero(self.weight):
            place += (~seen >> goal & 1) * self.weight[goal]
        rest: Ints = self.table[step][place]
        return rest


def _bound(trial: Trial, parity: int) -> _Bound:
    """Solve the search in which every goal that is not too far may be met at once.

    A walk's t-th step of an episode leads to a cell whose d has the parity of t, and no d above t.
    """
    kinds, number = np.unique(trial.distance[trial.distance % 2 == parity], return_counts=True)
    value = np.zeros(tuple(number + 1), dtype=np.int64)  # by how many of each kind are left
    num_steps = trial.episodes * trial.horizon
    table = np.zeros((num_steps, value.size), dtype=np.int64)
    for step in reversed(range(num_steps)):
        table[step] = value.ravel()
        time = step % trial.horizon + 1
        worth = trial.steps_at_goal(np.full(len(trial.distance), step)).sum(1)
        before = value.copy()
        for axis, d in enumerate(kinds):
            if d <= time and d % 2 == time % 2:
                gain = worth[trial.distance == d][0]
                left, met = np.moveaxis(before, axis, 0), np.moveaxis(value, axis, 0)
                np.maximum(left[1:], gain + met[:-1], out=left[1:])
        value = before
    strides = np.array(value.strides) // value.itemsize
    weight = np.zeros(len(trial.distance), dtype=np.int64)
    for d, stride in zip(kinds, strides, strict=True):
        weight[trial.distance == d] = stride
    return _Bound(table, weight)


def bayes_optimal(config: GridNaviConfig, tasks: Tasks, episodes: int, _streams: Streams) -> Tensor:
    """Return what the policy of greatest expected total return gets on each task, [K, episodes].

    Raises:
        InputError: the grid is too large to search it.
    """
    trial = new_trial(config.side, config.horizon, episodes)
    return _returns(trial, best_search(trial), config, tasks)


def told_the_goal(config: GridNaviConfig, tasks: Tasks, episodes: int, _streams: Streams) -> Tensor:
    """Return what a shortest path to the goal gets in every episode, [K, episodes]."""
    distance = tasks.parameter["goal"].sum(-1)
    at_goal = (config.horizon - distance + 1).clamp(min=0)
    reward = ELSEWHERE * config.horizon + (AT_GOAL - ELSEWHERE) * at_goal
    return reward[:, None].expand(-1, episodes)


def _returns(trial: Trial, found: Ints, config: GridNaviConfig, tasks: Tasks) -> Tensor:
    """Return the return of each episode on each task, [K, episodes], by when goals are found."""
    at_goal = torch.from_numpy(trial.steps_at_goal(found))
    column, row = tasks.parameter["goal"].long().cpu().unbind(-1)
    goal = torch.from_numpy(trial.goal)[column * config.side + row]
    returns = ELSEWHERE * config.horizon + (AT_GOAL - ELSEWHERE) * at_goal[goal]
    return returns.to(tasks.parameter["goal"])
