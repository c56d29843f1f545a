"""Philox against its published vectors, and streams as pure functions of their names."""

import itertools
import math
import random

import pytest
import torch
from torch import Tensor

from metarl.seeding import Streams, philox

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers_of_random123(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    c0, c1, c2, c3 = (torch.tensor([[0, word]]) for word in counter)
    words = philox((c0, c1, c2, c3), key)
    assert words.shape == (1, 2, 4)
    assert tuple(words[0, 1].tolist()) == expected


def test_a_draw_is_pinned_for_ever() -> None:
    streams = Streams(seed=7).at(3, "env").from_task(2)
    assert streams.uniform("goal", 1, (2,)).tolist() == PINNED_UNIFORM
    torch.testing.assert_close(streams.normal("goal", 1, (2,)), torch.tensor(PINNED_NORMAL))


PINNED_UNIFORM = [[0.6206327676773071, 0.29783374071121216]]
PINNED_NORMAL = [[-0.371888667345047, 1.9271843433380127]]


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 7), (2, 3, 4), (0,)])
def test_a_block_of_tasks_is_a_slice_of_the_whole(kind: str, shape: tuple[int, ...]) -> None:
    whole = draw(Streams(3).at("a"), kind, "x", 11, shape)
    assert whole.shape == (11, *shape)
    assert whole.dtype == torch.float32
    for first, last in [(0, 4), (4, 9), (10, 11)]:
        block = draw(Streams(3).at("a").from_task(first), kind, "x", last - first, shape)
        assert torch.equal(block, whole[first:last])
    twice = draw(Streams(3).at("a").from_task(1).from_task(3), kind, "x", 2, shape)
    assert torch.equal(twice, whole[4:6])


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_only_the_order_of_entries_counts_not_their_axes(kind: str) -> None:
    flat = draw(Streams(1), kind, "x", 3, (30,))
    assert torch.equal(draw(Streams(1), kind, "x", 3, (5, 6)).flatten(1), flat)


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_streams_of_different_names_are_unrelated(kind: str) -> None:
    size = 20_000
    places = {
        "base": (Streams(0).at("a"), "x"),
        "other seed": (Streams(1).at("a"), "x"),
        "other purpose": (Streams(0).at("a"), "y"),
        "other path": (Streams(0).at("b"), "x"),
        "deeper path": (Streams(0).at("a", 0), "x"),
        "number": (Streams(0).at(1), "x"),
        "the same number as text": (Streams(0).at("1"), "x"),
        "letters": (Streams(0).at("a", "b"), "x"),
        "the same letters in one": (Streams(0).at("ab"), "x"),
        "letters moved to the purpose": (Streams(0).at("a"), "bx"),
        "seed and path swapped": (Streams(1).at(0), "x"),
        "task beyond 32 bits": (Streams(0).at("a").from_task(2**32), "x"),
        "next task": (Streams(0).at("a").from_task(1), "x"),
    }
    rows = torch.cat([draw(s, kind, purpose, 1, (size,)) for s, purpose in places.values()])
    correlation = torch.corrcoef(rows.double()) - torch.eye(len(rows))
    assert correlation.abs().max() < 4.5 / math.sqrt(size)
    for one, other in itertools.combinations(rows, 2):
        assert (one == other).float().mean() < 1e-3


def test_paths_compose() -> None:
    expected = Streams(0).at("a", 1, "b").uniform("x", 2, (3,))
    assert torch.equal(Streams(0).at("a").at(1).at("b").uniform("x", 2, (3,)), expected)


def test_tasks_and_neighbouring_entries_are_uncorrelated() -> None:
    for kind in ("uniform", "normal"):
        x = draw(Streams(5), kind, "x", 8, (40_000,)).double()
        x = x - x.mean(1, keepdim=True)
        bound = 4.5 / math.sqrt(x.shape[1])
        assert (torch.corrcoef(x) - torch.eye(8)).abs().max() < bound
        for lag in range(1, 9):
            lagged = (x[:, lag:] * x[:, :-lag]).mean(1) / x.var(1)
            squares = torch.stack((x[:, lag:].flatten() ** 2, x[:, :-lag].flatten() ** 2))
            assert lagged.abs().max() < bound
            assert torch.corrcoef(squares)[0, 1].abs() < bound


def test_uniform_is_uniform_below_one() -> None:
    u = Streams(11).uniform("x", 4, (250_001,)).double().flatten()
    assert u.min() >= 0.0
    assert u.max() < 1.0
    assert torch.equal(u * 2**24, (u * 2**24).round())  # exact multiples of 2^-24
    assert distance_to(u, u.sort().values) < 1.95 / math.sqrt(len(u))
    for power in (1, 2, 3):
        deviation = math.sqrt(1 / (2 * power + 1) - 1 / (power + 1) ** 2)
        error = float((u**power).mean()) - 1 / (power + 1)
        assert abs(error) < 4.0 * deviation / math.sqrt(len(u))


def test_normal_is_normal_and_finite() -> None:
    z = Streams(12).normal("x", 4, (250_001,)).double().flatten()
    assert torch.isfinite(z).all()
    assert 4.5 < z.abs().max() < 6.7
    assert distance_to(z, torch.special.ndtr(z.sort().values)) < 1.95 / math.sqrt(len(z))
    moments = {1: (0.0, 1.0), 2: (1.0, 2.0), 3: (0.0, 15.0), 4: (3.0, 96.0)}
    for power, (mean, variance) in moments.items():
        error = float((z**power).mean()) - mean
        assert abs(error) < 4.0 * math.sqrt(variance / len(z))


def test_every_place_in_a_row_is_normal() -> None:
    z = Streams(13).normal("x", 100_000, (6,)).double()
    assert z.mean(0).abs().max() < 4.5 / math.sqrt(len(z))
    assert (z.var(0) - 1.0).abs().max() < 4.5 * math.sqrt(2.0 / len(z))


def test_no_global_generator_is_touched_or_heard() -> None:
    torch.manual_seed(0)
    before, python_before = torch.get_rng_state(), random.getstate()
    first = Streams(0).normal("x", 2, (3,)), Streams(0).uniform("x", 2, (3,))
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == python_before
    torch.manual_seed(1)
    second = Streams(0).normal("x", 2, (3,)), Streams(0).uniform("x", 2, (3,))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def draw(
    streams: Streams, kind: str, purpose: str, num_tasks: int, shape: tuple[int, ...]
) -> Tensor:
    method = streams.uniform if kind == "uniform" else streams.normal
    return method(purpose, num_tasks, shape)


def distance_to(sample: Tensor, cumulative: Tensor) -> float:
    """Kolmogorov-Smirnov distance, given the true distribution function at the sorted sample."""
    steps = torch.arange(len(sample) + 1, dtype=torch.float64) / len(sample)
    above, below = (steps[1:] - cumulative).max(), (cumulative - steps[:-1]).max()
    return float(torch.maximum(above, below))


@pytest.mark.parametrize("concentration", [1.0, 1.5, 3.0, 40.0])
def test_gammas_have_their_distribution_function(concentration: float) -> None:
    sample = Streams(4).gamma("x", torch.full((10_000, 3), concentration)).flatten()
    share = torch.special.gammainc(torch.tensor(concentration).double(), sample).sort().values
    number = len(share)
    distance = (share - (torch.arange(number) + 0.5) / number).abs().max()
    # Kolmogorov and Smirnov: passed by chance less than once in 10^5 times.
    assert distance * number**0.5 < 2.5


def test_gammas_of_one_are_exponential_and_neighbours_are_independent() -> None:
    sample = Streams(4).gamma("x", torch.ones(40_000, 2))
    assert sample.min() > 0
    share = (sample.flatten()[:, None] < torch.tensor([0.1, 0.5, 1.0, 3.0])).double().mean(0)
    expected = 1 - torch.exp(-torch.tensor([0.1, 0.5, 1.0, 3.0]).double())
    assert (share - expected).abs().max() < 0.007
    assert abs(float(torch.corrcoef(sample.T)[0, 1])) < 5 / 40_000**0.5


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 7), (0,)])
def test_a_block_of_gammas_is_a_slice_of_the_whole(shape: tuple[int, ...]) -> None:
    concentration = 1.0 + 3.0 * Streams(5).uniform("c", 500, shape)
    whole = Streams(3).gamma("x", concentration)
    assert whole.shape == (500, *shape)
    assert whole.dtype == torch.float64
    block = Streams(3).from_task(123).gamma("x", concentration[123:300])
    assert torch.equal(block, whole[123:300])
    # Other tasks' rejections change nothing, and other names draw other numbers.
    if whole.numel():
        assert not torch.equal(Streams(3).gamma("y", concentration), whole)


def test_gammas_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"concentrations must be >= 1, got 0\.5"):
        Streams(0).gamma("x", torch.tensor([[1.0, 0.5]]))
