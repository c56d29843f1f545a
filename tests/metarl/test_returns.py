"""Returns and advantages against a loop over time, and on numbers done by hand."""

import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metarl.returns import (
    discounted_sums,
    generalised_advantages,
    masked_mean,
    mean_of_others,
    standard_deviation,
    standardise,
    standardise_jointly,
)

REWARD = [1.0, 2.0, 3.0]
VALUE = [1.0, 2.0, 4.0, 8.0]


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def sums_by_loop(x: list[float], discount: float) -> list[float]:
    result, total = [], 0.0
    for value in reversed(x):
        total = value + discount * total
        result.append(total)
    return result[::-1]


def advantages_by_loop(
    steps: list[tuple[float, float, float, bool]], discount: float, gae_lambda: float
) -> list[float]:
    """One episode of (reward, value, value of what follows, terminated), without padding."""
    result, total = [], 0.0
    for reward, value, next_value, terminated in reversed(steps):
        total *= discount * gae_lambda
        total += reward - value + (0.0 if terminated else discount * next_value)
        result.append(total)
    return result[::-1]


def test_discounted_sums_by_hand() -> None:
    torch.testing.assert_close(discounted_sums(real(1, 2, 3), 0.5), real(2.75, 3.5, 3))
    torch.testing.assert_close(discounted_sums(real(1, 2, 3), 1.0), real(6, 5, 3))
    torch.testing.assert_close(discounted_sums(real(1, 2, 3), 0.0), real(1, 2, 3))
    torch.testing.assert_close(discounted_sums(real(4), 0.9), real(4))


def test_discounted_sums_keep_leading_axes_apart() -> None:
    x = torch.arange(24.0, dtype=torch.float64).reshape(2, 3, 4)
    expected = [[sums_by_loop(row, 0.9) for row in task] for task in x.tolist()]
    torch.testing.assert_close(discounted_sums(x, 0.9), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("terminated", "mask", "expected"),
    [
        # Errors with discount 0.5 and lambda 0.5: 1 + 1 - 1, 2 + 2 - 2, then as the end is.
        ([0, 0, 1], [1, 1, 1], [1 + 0.25 * 1.75, 2 - 0.25, 3 + 0 - 4]),  # the MDP ended
        ([0, 0, 0], [1, 1, 1], [1 + 0.25 * 2.75, 2 + 0.75, 3 + 4 - 4]),  # the time was up
        ([0, 0, 0], [1, 1, 0], [1 + 0.25 * 2, 2, 0]),  # cut before step 2: bootstrapped
        ([0, 1, 0], [1, 1, 0], [1 + 0.25 * 0, 2 + 0 - 2, 0]),  # the MDP ended early
        ([1, 0, 0], [1, 0, 0], [1 + 0 - 1, 0, 0]),
        ([0, 0, 0], [0, 0, 0], [0, 0, 0]),
    ],
)
def test_advantages_by_hand(terminated: list[int], mask: list[int], expected: list[float]) -> None:
    advantage = generalised_advantages(
        real(*REWARD),
        real(*VALUE),
        torch.tensor(terminated).bool(),
        torch.tensor(mask).bool(),
        discount=0.5,
        gae_lambda=0.5,
    )
    torch.testing.assert_close(advantage, real(*expected), rtol=0, atol=1e-15)


def test_lambda_one_is_the_bootstrapped_return_minus_the_value() -> None:
    no, yes = torch.zeros(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)
    advantage = generalised_advantages(real(*REWARD), real(*VALUE), no, yes, 0.5, 1.0)
    returns = [1 + 1 + 0.75 + 1, 2 + 1.5 + 2, 3 + 4]
    torch.testing.assert_close(advantage, real(*returns) - real(*VALUE[:3]))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_advantages_equal_the_loop(data: st.DataObject) -> None:
    number = st.floats(-5, 5)
    discount, gae_lambda = data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1))
    horizon = data.draw(st.integers(1, 9))
    rewards, values, ends, masks, expected = [], [], [], [], []
    for _ in range(data.draw(st.integers(1, 4))):
        length = data.draw(st.integers(0, horizon))
        dies = data.draw(st.booleans())
        reward = data.draw(st.lists(number, min_size=horizon, max_size=horizon))
        value = data.draw(st.lists(number, min_size=horizon + 1, max_size=horizon + 1))
        end = [dies and t == length - 1 for t in range(horizon)]
        steps = list(zip(reward, value, value[1:], end, strict=False))[:length]
        padding = [0.0] * (horizon - length)
        expected.append(advantages_by_loop(steps, discount, gae_lambda) + padding)
        rewards.append(reward)
        values.append(value)
        ends.append(end)
        masks.append([t < length for t in range(horizon)])
    advantage = generalised_advantages(
        torch.tensor(rewards, dtype=torch.float64),
        torch.tensor(values, dtype=torch.float64),
        torch.tensor(ends),
        torch.tensor(masks),
        discount,
        gae_lambda,
    )
    torch.testing.assert_close(
        advantage, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-10
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(0, 1))
def test_discounted_sums_equal_the_loop(x: list[float], discount: float) -> None:
    expected = real(*sums_by_loop(x, discount))
    torch.testing.assert_close(discounted_sums(real(*x), discount), expected, rtol=1e-9, atol=1e-9)


def test_what_comes_after_the_end_takes_no_part() -> None:
    mask = torch.tensor([True, True, False, False])
    nan = float("nan")
    for dies in (False, True):
        end = torch.tensor([False, dies, False, False])
        # The observation after the last step is real; after a termination it is worth nothing.
        clean, dirty = [1.0, 2.0, 4.0, 0.0, 0.0], [1.0, 2.0, nan if dies else 4.0, nan, nan]
        plain = generalised_advantages(real(1, 2, 0, 0), real(*clean), end, mask, 0.9, 0.8)
        spoilt = generalised_advantages(real(1, 2, nan, 99), real(*dirty), end, mask, 0.9, 0.8)
        assert torch.equal(plain, spoilt)
        assert plain[2:].tolist() == [0.0, 0.0]


def test_masked_mean_by_hand() -> None:
    x = torch.tensor([[[1.0, 2.0], [3.0, float("nan")]], [[5.0, 6.0], [7.0, 8.0]]])
    mask = torch.tensor([[[True, True], [True, False]], [[False, False], [True, False]]])
    assert masked_mean(x, mask).tolist() == [2.0, 7.0]
    assert masked_mean(x, torch.zeros_like(mask)).tolist() == [0.0, 0.0]


def test_standardise_task_by_task_under_the_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    scale = real(1, 100, 0.01)[:, None, None]
    x = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64) * scale + 3 * scale
    mask = torch.arange(5) < torch.tensor([[5, 1, 3, 0], [5, 5, 5, 5], [0, 2, 0, 1]])[..., None]
    result = standardise(torch.where(mask, x, float("nan")), mask)
    for task in range(3):
        kept = x[task][mask[task]].tolist()
        mean, deviation = statistics.fmean(kept), statistics.pstdev(kept)
        expected = [(value - mean) / deviation for value in kept]
        torch.testing.assert_close(result[task][mask[task]], real(*expected), rtol=1e-5, atol=1e-10)
    assert (result[~mask] == 0.0).all()


def test_standardise_divides_by_the_spread_that_it_is_given() -> None:
    x, mask = real(1, 3, 1, 3, 5, 9, 5, 9).view(2, 1, 4), torch.ones(2, 1, 4, dtype=torch.bool)
    result = standardise(x, mask, real(1.5, 4.0))
    expected = real(-2 / 3, 2 / 3, -2 / 3, 2 / 3, -0.5, 0.5, -0.5, 0.5).view(2, 1, 4)
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-12)


def test_standardise_of_equal_numbers_is_zero() -> None:
    mask = torch.ones(1, 2, 3, dtype=torch.bool)
    assert (standardise(torch.full((1, 2, 3), 0.5), mask) == 0.0).all()
    assert (standardise(torch.full((1, 2, 3), 0.5), ~mask) == 0.0).all()


def test_standard_deviation_of_each_task_under_the_mask() -> None:
    x = real(1.0, 2.0, 9.0, 4.0, 5.0, 6.0, 7.0, 100.0).view(2, 2, 2)
    mask = torch.tensor([[[True, True], [True, False]], [[True, True], [True, False]]])
    expected = [statistics.pstdev([1.0, 2.0, 9.0]), statistics.pstdev([5.0, 6.0, 7.0])]
    assert standard_deviation(x, mask).tolist() == pytest.approx(expected)


def test_the_mean_of_others_leaves_each_out_of_its_own() -> None:
    x = real(1.0, 2.0, 6.0, -4.0)
    assert mean_of_others(x, 4).tolist() == pytest.approx([4 / 3, 1.0, -1 / 3, 3.0])
    # Two tasks here, and two in another process.
    mine = mean_of_others(x[:2], 4, lambda share: share + x[2:].sum())
    assert mine.tolist() == pytest.approx([4 / 3, 1.0])


def test_joint_standardisation_keeps_what_tasks_differ_by() -> None:
    # Two tasks of one episode; the second has twice as many steps, and a tenth of the stakes.
    x = torch.tensor([[[10.0, -10.0, 99.0, 99.0]], [[1.0, -1.0, 1.0, -1.0]]])
    mask = torch.tensor([[[True, True, False, False]], [[True] * 4]])
    counted = [10.0, -10.0, 1.0, -1.0, 1.0, -1.0]
    scale = statistics.pstdev(counted)
    expected = [[[10 / scale, -10 / scale, 0, 0]], [[1 / scale, -1 / scale] * 2]]
    torch.testing.assert_close(standardise_jointly(x, mask), torch.tensor(expected))
    shifted = standardise_jointly(x + 5.0, mask)
    torch.testing.assert_close(shifted, torch.tensor(expected))


def test_joint_standardisation_over_two_processes_is_that_of_one() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 3.0 + torch.randn(4, 2, 5, generator=generator)
    mask = torch.rand(x.shape, generator=generator) < 0.7
    sums: list[Tensor] = []

    def note(share: Tensor) -> Tensor:
        sums.append(share)
        return share

    for rows in (slice(3), slice(3, 4)):
        standardise_jointly(x[rows], mask[rows], note)
    together = sums[0] + sums[1]
    parts = [
        standardise_jointly(x[rows], mask[rows], lambda _: together)
        for rows in (slice(3), slice(3, 4))
    ]
    torch.testing.assert_close(torch.cat(parts), standardise_jointly(x, mask))
