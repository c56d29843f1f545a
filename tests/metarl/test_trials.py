"""Trials: rounds end to end, without gaps, in order."""

import torch
from torch import Tensor

from metarl.trials import Trials, join, previous
from metarl.types import Trajectories

K, E, T = 2, 2, 3
LENGTHS = torch.tensor([[[3, 1], [0, 2]], [[2, 3], [1, 0]], [[3, 3], [3, 1]]])
"""Of each round, task and episode."""


def rounds(discrete: bool = False) -> list[Trajectories]:
    """Every step's entries tell its round, task, episode and time."""
    result = []
    for number, length in enumerate(LENGTHS):
        place = torch.stack(
            torch.meshgrid(
                *(torch.arange(n) for n in (K, E, T + 1)),
                indexing="ij",
            ),
            -1,
        ).float()
        code = 1000 * (number + 1) + (place * torch.tensor([100.0, 10.0, 1.0])).sum(-1)
        mask = torch.arange(T) < length[..., None]
        step = code[..., :-1]
        result.append(
            Trajectories(
                task_id=torch.full((K,), -1),
                obs=torch.stack((code, -code), -1),
                action=step.long() if discrete else torch.stack((step + 0.5,), -1),
                log_prob=-step,
                reward=step + 0.25,
                terminated=torch.zeros_like(mask),
                mask=mask,
                faulty=torch.zeros(K, E, dtype=torch.bool),
                success=torch.full((K, E), -1, dtype=torch.int8),
            )
        )
    return result


def expected(task: int, episode: int) -> list[float]:
    return [
        1000.0 * (number + 1) + 100 * task + 10 * episode + time
        for number, length in enumerate(LENGTHS.tolist())
        for time in range(length[task][episode])
    ]


def rows(trials: Trials, leaf: Tensor) -> list[list[float]]:
    return [row[mask].tolist() for row, mask in zip(leaf, trials.mask, strict=True)]


def test_steps_stand_at_the_front_in_order() -> None:
    for discrete in (False, True):
        trials = join(rounds(discrete))
        assert trials.mask.shape == (K * E, 3 * T)
        lengths = LENGTHS.sum(0).flatten()
        assert torch.equal(trials.mask, torch.arange(3 * T) < lengths[:, None])
        codes = [expected(task, episode) for task in range(K) for episode in range(E)]
        assert rows(trials, trials.obs[..., 0]) == codes
        assert rows(trials, -trials.obs[..., 1]) == codes
        assert rows(trials, -trials.log_prob) == codes
        assert rows(trials, trials.reward - 0.25) == codes
        action = trials.action if discrete else trials.action[..., 0] - 0.5
        assert rows(trials, action) == codes


def test_an_episode_that_is_not_the_first_resumes_its_trial() -> None:
    trials = join(rounds())
    begins = [
        [place % 10 == 0 and place >= 2000 for place in expected(task, episode)]
        for task in range(K)
        for episode in range(E)
    ]
    assert rows(trials, trials.resumed) == begins


def test_one_round_is_a_trial_of_one_episode() -> None:
    trials = join(rounds()[:1])
    assert not trials.resumed.any()
    assert trials.mask.sum(1).tolist() == [3, 1, 0, 2]


def test_joining_leaves_the_rounds_alone() -> None:
    given = rounds()
    kept = [Trajectories(*(leaf.clone() for leaf in batch)) for batch in given]
    join(given)
    for batch, copy in zip(given, kept, strict=True):
        assert all(torch.equal(leaf, other) for leaf, other in zip(batch, copy, strict=True))


def test_previous_is_the_step_before() -> None:
    x = torch.arange(1.0, 13.0).view(2, 3, 2)
    assert previous(x).tolist() == [[[0, 0], [1, 2], [3, 4]], [[0, 0], [7, 8], [9, 10]]]
    assert previous(x[..., 0]).tolist() == [[0, 1, 3], [0, 7, 9]]
