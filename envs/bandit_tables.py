"""Dynamic programs for Bernoulli bandits under the prior Beta(1, 1): indices and optimal plans.

What is known of an arm after m pulls with w wins is Beta(1 + w, 1 + m - w): it pays with
probability p = (1 + w) / (2 + m).

**Gittins index of horizon s.** The price per pull at which it is worth nothing to be allowed at
most s pulls of the arm, stopping at will (Gittins 1979; for finite horizons Nino-Mora 2011). For
each price c on a grid, with d the discount,

    Q_s(m, w; c) = p - c + d (p V_{s-1}(m + 1, w + 1; c) + (1 - p) V_{s-1}(m + 1, w; c)),
    V_s = max(0, Q_s),  V_0 = 0,

and the index is the price where Q_s, which falls with c, is 0: between two points of the grid,
where the line between them is. With d < 1 and a long horizon it is the classical index.

**Bayes-optimal plan.** The greatest total reward of n pulls of k arms, over all rules, in the mean
over the prior. Arms are exchangeable, so a state is a multiset of (pulls, wins), and of more than n
arms only n can be met. States are enumerated forwards, in layers by the number of pulls made, and
valued backwards. Exact; feasible while the states are at most ``MOST_STATES``.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from math import comb, factorial
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.checks import InputError

MOST_STATES = 3_000_000
"""States of a Bayes-optimal plan at most: some seconds and some hundreds of MB."""
_LARGEST_KEY = 2**63 - 1
_RESOLUTIONS = ((30, 1024), (120, 512))
"""Prices on the grid for horizons up to so many pulls; beyond, 128."""


@lru_cache(maxsize=4)
def gittins_indices(horizon: int, discount: float = 1.0) -> Sequence[Tensor]:
    """Return the indices of horizons s up to ``horizon``, for what can be met with s pulls left.

    Entry s - 1 is [M, M] float32 by (pulls, wins), with M = horizon - s + 1; where there would be
    more wins than pulls it means nothing.
    """
    num_prices = next((number for most, number in _RESOLUTIONS if horizon <= most), 128)
    price = torch.linspace(0.0, 1.0, num_prices + 1)
    count = torch.arange(horizon + 1, dtype=torch.float32)
    chance = ((count + 1.0) / (count[:, None] + 2.0)).clamp(max=1.0)[..., None]
    value = torch.zeros(horizon + 1, horizon + 1, num_prices + 1)
    tables = []
    for pulls_left in range(1, horizon + 1):
        size = horizon - pulls_left + 1
        p = chance[:size, :size]
        after_loss, after_win = value[1 : size + 1, :size], value[1 : size + 1, 1 : size + 1]
        worth = torch.lerp(after_loss, after_win, p).mul_(discount).add_(p).sub_(price)
        # Q is positive at price 0 and negative at 1, except that it is 0 there for a sure win.
        last = ((worth > 0.0).sum(-1, keepdim=True) - 1).clamp(0, num_prices - 1)
        above, below = worth.gather(-1, last), worth.gather(-1, last + 1)
        tables.append(((last + above / (above - below)) / num_prices)[..., 0])
        value = worth.clamp_min_(0.0)
    return tables


class Plan(NamedTuple):
    """What to do in each state, by the number of pulls made."""

    num_arms: int
    """Arms that are ever considered."""
    num_codes: int
    """An arm's code is below this."""
    keys: Sequence[Tensor]
    """[states] int64, ascending, for each number of pulls made: arms' codes as one number."""
    arm: Sequence[Tensor]
    """[states] int64: which arm to pull, of the arms in the order of their codes."""
    value: float
    """Expected total reward of all pulls."""


def arm_code(pulls: Tensor, wins: Tensor) -> Tensor:
    """Number what can be known of an arm, by pulls and then by wins; int64 of the same shape."""
    return pulls * (pulls + 1) // 2 + wins


def state_key(codes: Tensor, num_codes: int) -> Tensor:
    """Return [...] int64: the codes [..., arms], which ascend, read as the digits of one number."""
    key = torch.zeros_like(codes[..., 0])
    for digit in codes.unbind(-1):
        key = key * num_codes + digit
    return key


@cache
def bayes_optimal_plan(num_arms: int, num_pulls: int) -> Plan:
    """Return the Bayes-optimal plan for k arms and n pulls.

    Raises:
        InputError: there are more than ``MOST_STATES`` states, or they cannot be numbered in
            63 bits.
    """
    num_arms = min(num_arms, num_pulls)
    num_codes = (num_pulls + 1) * (num_pulls + 2) // 2
    at_least = comb(num_pulls - 1 + 2 * num_arms, 2 * num_arms) / factorial(num_arms)
    if at_least > MOST_STATES or num_codes**num_arms > _LARGEST_KEY:
        raise _too_large(num_arms, num_pulls)
    codes = torch.zeros(1, num_arms, dtype=torch.int64)
    keys, chances, following = [], [], []
    for _ in range(num_pulls):
        keys.append(state_key(codes, num_codes))
        pulls, wins = _what_codes_mean(codes, num_pulls)
        chances.append((wins + 1.0).double() / (pulls + 2.0))
        codes, after = _next_layer(codes, pulls, num_codes)
        following.append(after)
        if sum(map(len, keys)) + len(codes) > MOST_STATES:
            raise _too_large(num_arms, num_pulls)
    value, choices = torch.zeros(len(codes), dtype=torch.float64), []
    for chance, after in zip(reversed(chances), reversed(following), strict=True):
        win, loss = value[after].unbind(-1)
        value, choice = (chance * (1.0 + win) + (1.0 - chance) * loss).max(-1)
        choices.append(choice)
    return Plan(num_arms, num_codes, keys, choices[::-1], float(value))


def _next_layer(codes: Tensor, pulls: Tensor, num_codes: int) -> tuple[Tensor, Tensor]:
    """Return the states [N', k] one pull later, and where a win and a loss lead: [N, k, 2]."""
    num_arms = codes.shape[-1]
    keys = []
    for arm in range(num_arms):
        # One pull more adds m + 1 to the code, and a win one more.
        for win in (1, 0):
            after = codes.clone()
            after[:, arm] += pulls[:, arm] + 1 + win
            keys.append(state_key(after.sort(-1).values, num_codes))
    distinct, place = torch.unique(torch.stack(keys, -1), return_inverse=True)
    digits, rest = [], distinct
    for _ in range(num_arms):
        digits.append(rest % num_codes)
        rest = rest // num_codes
    return torch.stack(digits[::-1], -1), place.view(len(codes), num_arms, 2)


def _what_codes_mean(codes: Tensor, num_pulls: int) -> tuple[Tensor, Tensor]:
    """Return (pulls, wins) of codes, int64 of the same shape."""
    count = torch.arange(num_pulls + 1)
    first = arm_code(count, torch.zeros_like(count))
    pulls = torch.searchsorted(first, codes, right=True) - 1
    return pulls, codes - first[pulls]


def _too_large(num_arms: int, num_pulls: int) -> InputError:
    return InputError(
        [
            f"the Bayes-optimal plan of {num_pulls} pulls of {num_arms} arms is too large: at most"
            f" {MOST_STATES} states, with (pulls + 1)(pulls + 2) / 2 to the power of arms below"
            " 2^63; take fewer pulls, or the Gittins index, which comes close"
        ]
    )
