"""The study of estimators: its exact world, its statistics, and what the stored table says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from metarl.experiments.estimators import (
    E_MAML,
    EPISODES,
    HORIZON,
    START,
    SURROGATES,
    THETA,
    EstimatorsRequest,
    derivatives,
    draw,
    expected_return,
    rows_at,
    state_values,
    summary,
    write,
)
from metarl.seeding import Streams

STORED = Path(__file__).resolve().parents[2] / "results" / "estimators" / "estimators.json"
BIASED = {"log-likelihood (MAML)", "ratio (LVC)"}


def stored() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(STORED.read_text())["rows"]
    return rows


def test_values_and_occupancies_agree_on_the_return() -> None:
    by_value = START @ state_values(THETA)[0] / HORIZON
    torch.testing.assert_close(expected_return(THETA), by_value)


def test_what_is_drawn_earns_the_return_and_leads_on_as_the_policy_says() -> None:
    batch = draw(THETA, 200, 100, Streams(5))
    totals = batch.reward.sum(-1).flatten() / HORIZON
    error = float(totals.std()) / len(totals) ** 0.5
    assert abs(float(totals.mean() - expected_return(THETA))) < 4 * error
    # From every step on what is earned has the exact value as its mean.
    for t in range(HORIZON):
        gained = batch.advantage[..., t].flatten()
        assert abs(float(gained.mean())) < 4 * float(gained.std()) / len(gained) ** 0.5


def test_all_surrogates_of_a_batch_have_unbiased_gradients() -> None:
    batch = draw(THETA, 400, 20, Streams(6))
    exact = torch.func.grad(expected_return)(THETA)
    for surrogate in SURROGATES.values():
        numbers = summary(derivatives(surrogate, batch)[0], exact)
        assert numbers["bias"] < 3 * numbers["error of bias"]


def test_summary_by_hand() -> None:
    found = torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=torch.float64)
    numbers = summary(found, torch.tensor([0.0, 2.0], dtype=torch.float64))
    spread = 5**0.5 / 2
    assert numbers["bias"] == pytest.approx(1.0)
    assert numbers["relative standard deviation"] == pytest.approx(spread, rel=1e-3)
    assert numbers["error of bias"] == pytest.approx(spread / 2**0.5, rel=1e-3)
    assert numbers["cosine"] == pytest.approx(0.4)


def test_it_writes_a_table_and_a_figure(tmp_path: Path) -> None:
    write(EstimatorsRequest(out=tmp_path, trajectories=2))
    rows = json.loads((tmp_path / "estimators.json").read_text())["rows"]
    found = {(row["quantity"], row["estimator"], row["episodes"]) for row in rows}
    assert len(found) == len(rows) == len(EPISODES) * (2 * len(SURROGATES) + 1)
    assert (tmp_path / "estimators.png").read_bytes().startswith(b"\x89PNG")


def test_the_stored_table_is_what_the_code_computes() -> None:
    again = rows_at(30, EstimatorsRequest(out=Path(), trajectories=15_000))
    rows = {(r["quantity"], r["estimator"]): r for r in stored() if r["episodes"] == 30}
    assert len(again) == len(rows)
    for row in again:
        before = rows[row["quantity"], row["estimator"]]
        for name in ("relative standard deviation", "cosine"):
            assert row[name] == pytest.approx(before[name], rel=0.1, abs=0.1)


def test_in_the_stored_table_only_two_hessians_are_biased() -> None:
    rows = [row for row in stored() if row["quantity"] == "Hessian"]
    assert len(rows) == len(EPISODES) * len(SURROGATES)
    for row in rows:
        if row["estimator"] in BIASED:
            assert row["bias"] > 0.1
            assert row["bias"] > 10 * row["error of bias"]
        else:
            assert row["bias"] < 3 * row["error of bias"]


def test_in_the_stored_table_the_sampling_credit_alone_stays_as_noisy_as_it_was() -> None:
    for name in (*SURROGATES, E_MAML):
        rows = [r for r in stored() if (r["quantity"], r["estimator"]) == ("meta-gradient", name)]
        few, many = rows[0], rows[-1]
        assert (few["episodes"], many["episodes"]) == (EPISODES[0], EPISODES[-1])
        fall = many["relative standard deviation"] / few["relative standard deviation"]
        assert (fall < 0.2) == (name != E_MAML)
