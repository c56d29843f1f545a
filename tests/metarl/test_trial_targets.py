"""Advantages and targets of whole trials: by hand, and how they are standardised."""

import pytest
import torch

from metarl.processes import ALONE
from metarl.trial_targets import gather, trial_advantages

N, L = 5, 4
MASK = torch.arange(L) < torch.tensor([4, 2, 0, 3, 1])[:, None]


def test_advantages_of_a_trial_by_hand() -> None:
    """Two episodes: one of a single step that terminated, one of two; gamma 1/2, lambda 1/4."""
    reward = torch.tensor([[1.0, 2.0, 4.0, 0.0]])
    value = torch.tensor([[3.0, 5.0, 7.0, 11.0]])
    mask = torch.tensor([[True, True, True, False]])
    advantage, target = trial_advantages(reward, value, mask, 0.5, 0.25)
    errors = [1 + 0.5 * 5 - 3, 2 + 0.5 * 7 - 5, 4 - 7]  # 0.5, 0.5, -3
    by_hand = [
        errors[0] + errors[1] / 8 + errors[2] / 64,
        errors[1] + errors[2] / 8,
        errors[2],
        0.0,
    ]
    assert advantage[0].tolist() == by_hand
    assert target[0].tolist() == [a + v for a, v in zip(by_hand, [3, 5, 7, 0], strict=True)]


def test_with_lambda_1_targets_are_returns_to_the_end_of_the_trial() -> None:
    generator = torch.Generator().manual_seed(0)
    reward, value = (torch.randn(N, L, generator=generator).double() for _ in range(2))
    _, target = trial_advantages(torch.where(MASK, reward, 0.0), value, MASK, 0.9, 1.0)
    for trial in range(N):
        length = int(MASK[trial].sum())
        for time in range(L):
            left = sum(0.9 ** (s - time) * float(reward[trial, s]) for s in range(time, length))
            assert float(target[trial, time]) == pytest.approx(left, abs=1e-12)


def test_advantages_and_targets_are_standardised_under_the_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    advantage, target, log_prob = (
        5.0 + 3.0 * torch.randn(N, L, generator=generator) for _ in range(3)
    )
    samples, spread = gather(log_prob.clone(), log_prob, (advantage, target), MASK, ALONE)
    for standard, raw in ((samples.advantage, advantage), (samples.target, target)):
        inside = standard[MASK]
        torch.testing.assert_close(inside.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
        torch.testing.assert_close(inside.std(unbiased=False), torch.tensor(1.0))
        deviation = raw[MASK].std(unbiased=False)
        torch.testing.assert_close(inside * deviation, raw[MASK] - raw[MASK].mean())
        assert not standard[~MASK].any()
    torch.testing.assert_close(spread.restore(samples.target)[MASK], target[MASK])


@pytest.mark.parametrize(("spread", "scale"), [(0.0, 0.25), (0.1, 0.25), (0.3, 0.3), (6.0, 6.0)])
def test_the_scale_of_targets_has_a_floor(spread: float, scale: float) -> None:
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0]).expand(N, L)
    every = torch.ones(N, L, dtype=torch.bool)
    samples, found = gather(signs, signs, (signs, 5.0 + spread * signs), every, ALONE)
    assert float(found.deviation) == pytest.approx(scale)
    assert float(found.mean) == pytest.approx(5.0)
    torch.testing.assert_close(samples.target, spread / scale * signs, atol=1e-6, rtol=1e-6)
    assert samples.advantage.std(unbiased=False) == pytest.approx(1.0)
