"""The linear baseline against a least-squares solution in numpy, task by task."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.baselines import linear_values, time_features
from metarl.parallel import one_torch_thread
from metarl.types import Trajectories

TASKS, EPISODES, HORIZON, SIZE = 3, 5, 7, 2


def batch_of(reward: Tensor, obs: Tensor, length: Tensor) -> Trajectories:
    """A round whose episodes end by time after ``length`` [K, E] steps."""
    mask = torch.arange(HORIZON) < length[..., None]
    nothing = torch.zeros_like(reward)
    return Trajectories(
        task_id=torch.full((TASKS,), -1),
        obs=obs,
        action=nothing[..., None],
        log_prob=nothing,
        reward=reward * mask,
        terminated=torch.zeros_like(mask),
        mask=mask,
        faulty=torch.zeros_like(length, dtype=torch.bool),
        success=torch.full_like(length, -1, dtype=torch.int8),
    )


def random_batch(dtype: torch.dtype = torch.float64) -> Trajectories:
    generator = torch.Generator().manual_seed(0)
    obs = 6.0 * torch.randn(TASKS, EPISODES, HORIZON + 1, SIZE, generator=generator, dtype=dtype)
    reward = torch.randn(TASKS, EPISODES, HORIZON, generator=generator, dtype=dtype)
    length = torch.tensor([[7, 7, 7, 7, 7], [7, 4, 1, 6, 3], [5, 5, 0, 2, 7]])
    return batch_of(reward, obs, length)


def features_by_hand(obs: NDArray[np.float64], time: int) -> list[float]:
    clipped = [min(max(float(entry), -10.0), 10.0) for entry in obs]
    t = time / 100
    return [*clipped, *(entry**2 for entry in clipped), t, t**2, t**3, 1.0]


def values_by_hand(batch: Trajectories, task: int, discount: float, ridge: float) -> Tensor:
    """Ridge regression as least squares with sqrt(ridge) I below, over the real steps alone."""
    obs, reward = batch.obs[task].double().numpy(), batch.reward[task].double().numpy()
    rows, targets = [], []
    for episode in range(EPISODES):
        length = int(batch.mask[task, episode].sum())
        for t in range(length):
            rows.append(features_by_hand(obs[episode, t], t))
            targets.append(sum(discount ** (s - t) * reward[episode, s] for s in range(t, length)))
    size = 2 * SIZE + 4
    matrix = np.concatenate([np.array(rows), np.sqrt(ridge) * np.eye(size)])
    weights = np.linalg.lstsq(matrix, np.append(targets, np.zeros(size)), rcond=None)[0]
    everywhere = [
        [np.dot(features_by_hand(obs[e, t], t), weights) for t in range(HORIZON)] + [0.0]
        for e in range(EPISODES)
    ]
    return torch.tensor(np.array(everywhere))


def test_features_by_hand() -> None:
    obs = torch.tensor([[3.0, -40.0], [0.5, 10.5], [0.0, 1.0]])
    expected = [
        [3.0, -10.0, 9.0, 100.0, 0.0, 0.0, 0.0, 1.0],
        [0.5, 10.0, 0.25, 100.0, 0.01, 1e-4, 1e-6, 1.0],
        [0.0, 1.0, 0.0, 1.0, 0.02, 4e-4, 8e-6, 1.0],
    ]
    torch.testing.assert_close(time_features(obs), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("ridge", [1e-3, 1.0])
@pytest.mark.parametrize("discount", [0.0, 0.9, 1.0])
def test_values_equal_least_squares_task_by_task(discount: float, ridge: float) -> None:
    batch = random_batch()
    values = linear_values(batch, discount, ridge)
    assert values.shape == (TASKS, EPISODES, HORIZON + 1)
    for task in range(TASKS):
        expected = values_by_hand(batch, task, discount, ridge)
        torch.testing.assert_close(values[task], expected, rtol=1e-7, atol=1e-8)


def test_the_fit_is_solved_in_float64() -> None:
    batch = random_batch(torch.float32)
    values = linear_values(batch, 0.9, 1e-5)
    assert values.dtype == torch.float32
    for task in range(TASKS):
        expected = values_by_hand(batch, task, 0.9, 1e-5).float()
        torch.testing.assert_close(values[task], expected, rtol=1e-5, atol=1e-5)


def test_tasks_together_equal_tasks_alone() -> None:
    batch = random_batch()
    together = linear_values(batch, 0.9, 1e-3)
    for task in range(TASKS):
        alone = linear_values(Trajectories(*(x[task : task + 1] for x in batch)), 0.9, 1e-3)
        torch.testing.assert_close(together[task], alone[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("discount", [0.0, 0.9, 1.0])
def test_a_return_that_is_linear_in_the_features_is_fitted_exactly(discount: float) -> None:
    generator = torch.Generator().manual_seed(1)
    obs = torch.randn(TASKS, EPISODES, HORIZON + 1, SIZE, generator=generator).double()
    scale = torch.tensor([1.0, 1.0, 1.0, 1.0, 1e2, 1e3, 1e4, 1.0], dtype=torch.float64)
    weights = scale * torch.randn(TASKS, 8, generator=generator).double()
    returns = torch.einsum("ketf,kf->ket", time_features(obs), weights)
    following = torch.cat((returns[..., 1:-1], torch.zeros_like(returns[..., :1])), -1)
    reward = returns[..., :-1] - discount * following
    full = torch.full((TASKS, EPISODES), HORIZON)
    values = linear_values(batch_of(reward, obs, full), discount, 1e-16)
    torch.testing.assert_close(values[..., :-1], returns[..., :-1], rtol=1e-4, atol=1e-4)


def test_nothing_is_left_to_earn_at_the_time_limit_but_after_a_cut_there_is() -> None:
    batch = random_batch()
    values = linear_values(batch, 0.9, 1e-3)
    assert (values[..., -1] == 0.0).all()
    assert (values[..., :-1] != 0.0).all()


def test_padded_steps_take_no_part() -> None:
    batch = random_batch()
    values = linear_values(batch, 0.9, 1e-3)
    first_step_is_real = torch.ones(TASKS, EPISODES, 1, dtype=torch.bool)
    real_obs = torch.cat((first_step_is_real, batch.mask), -1)  # also where the last step led
    spoilt = batch._replace(
        obs=torch.where(real_obs[..., None], batch.obs, 7.0),
        reward=torch.where(batch.mask, batch.reward, 50.0),
    )
    assert torch.equal(linear_values(spoilt, 0.9, 1e-3)[real_obs], values[real_obs])


def test_without_any_step_the_value_is_zero() -> None:
    batch = random_batch()
    empty = batch._replace(mask=torch.zeros_like(batch.mask), reward=0 * batch.reward)
    assert (linear_values(empty, 0.9, 1e-3) == 0.0).all()


@pytest.mark.parametrize(("size", "horizon"), [(17, 100), (3, 7), (20, 33)])
def test_the_last_bit_does_not_depend_on_how_tasks_are_split(size: int, horizon: int) -> None:
    """BLAS chooses its way by alignment and by the number of matrices, on some processors only."""
    generator = torch.Generator().manual_seed(0)
    shape = (6, EPISODES, horizon)
    nothing = torch.zeros(shape)
    whole = Trajectories(
        task_id=torch.full((6,), -1),
        obs=torch.randn(*shape[:2], horizon + 1, size, generator=generator),
        action=nothing[..., None],
        log_prob=nothing,
        reward=torch.randn(shape, generator=generator),
        terminated=nothing.bool(),
        mask=~nothing.bool(),
        faulty=nothing[..., 0].bool(),
        success=nothing[..., 0].to(torch.int8) - 1,
    )
    with one_torch_thread():
        together = linear_values(whole, 0.99, 1e-5)
        for length in (1, 2, 3):
            parts = [
                # Clones, as a share of the tasks lies in memory of its own.
                linear_values(
                    Trajectories(*(leaf[first : first + length].clone() for leaf in whole)),
                    0.99,
                    1e-5,
                )
                for first in range(0, 6, length)
            ]
            assert torch.equal(torch.cat(parts), together)
