"""Several processes do what one does: shares, exchanges, and training on a share of the tasks."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from metarl.agents.references import RandomAgent
from metarl.checks import InputError
from metarl.envs.physics import default_threads
from metarl.processes import ALONE, Processes, connect, processes_of
from tests.group_worker import CASES, train_cases

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = {
    "RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}
ONE_OF_ONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
Pair = list[tuple[dict[str, Any], dict[str, Tensor]]]


@given(size=st.integers(1, 40), more=st.integers(0, 500))
def test_shares_are_even_and_leave_nothing_out(size: int, more: int) -> None:
    num_tasks = size + more
    shares = [Processes(rank, size).share(num_tasks) for rank in range(size)]
    assert shares[0].start == 0
    assert shares[-1].stop == num_tasks
    assert all(left.stop == right.start for left, right in itertools.pairwise(shares))
    sizes = {share.stop - share.start for share in shares}
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


def test_fewer_tasks_than_processes_is_refused() -> None:
    with pytest.raises(InputError, match="2 tasks cannot be shared by 3 processes"):
        Processes(0, 3).share(2)


def test_alone_exchanges_nothing() -> None:
    x = torch.arange(3.0)
    assert connect({}) is ALONE
    assert connect(TORCHRUN | ONE_OF_ONE) is ALONE
    assert ALONE.leads
    assert ALONE.total(x) is x
    assert ALONE.highest(3, -1) == [3, -1]
    assert ALONE.from_first([x])[0] is x
    assert ALONE.place(7) == (0, 7)
    assert ALONE.agree("ab")
    with ALONE:
        pass


def test_an_agent_that_knows_of_no_processes_works_alone() -> None:
    group = Processes(1, 2)
    agent = RandomAgent.__new__(RandomAgent)
    assert processes_of(agent) is ALONE
    agent.processes = group
    assert processes_of(agent) is group


@pytest.mark.parametrize("missing", TORCHRUN)
def test_an_environment_in_part_is_refused(missing: str) -> None:
    part = {name: value for name, value in TORCHRUN.items() if name != missing}
    with pytest.raises(InputError, match=f"but not {missing}: torchrun sets all"):
        connect(part)
    with pytest.raises(InputError, match=f"but not {missing}"):
        connect(part | {missing: ""})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("RANK", "4", "from 0 to 3, got '4'"),
        ("RANK", "-1", "from 0 to 3, got '-1'"),
        ("RANK", "one", "got 'one'"),
        ("WORLD_SIZE", "0", "from 1 to"),
        ("LOCAL_RANK", "2", "from 0 to 1"),
        ("LOCAL_WORLD_SIZE", "5", "from 1 to 4"),
        ("MASTER_PORT", "70000", "from 1 to 65535"),
    ],
)
def test_a_malformed_environment_is_refused(name: str, value: str, allowed: str) -> None:
    with pytest.raises(InputError, match=f"{name} must be a whole number.*{allowed}"):
        connect(TORCHRUN | {name: value})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Return what each of two processes left."""
    folder = tmp_path_factory.mktemp("pair")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command += ["2", "-m", "tests.group_worker", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return [
        (
            json.loads((folder / f"{rank}.json").read_text()),
            load_file(folder / f"{rank}.safetensors"),
        )
        for rank in range(2)
    ]


def test_every_exchange(pair: Pair) -> None:
    for rank, (facts, _) in enumerate(pair):
        assert facts["rank"] == rank
        assert facts["total"] == [2.0, 1.0]
        assert facts["argument"] == [1.0, rank]
        assert facts["place"] == [3 * rank, 7]
        assert facts["highest"] == [1, 0]
        assert facts["from_first"] == [[1.0, 0.0], [1, 0]]
        assert facts["agree"] == [True, False]
        share = max(1, default_threads() // 2)
        assert facts["threads"] == [share, share]


def test_failures_are_shared_and_said_once(pair: Pair) -> None:
    (first, second) = (facts["said"] for facts, _ in pair)
    assert (first["none"], second["none"]) == (["note ", "well"], ["", "well"])
    assert (first["second"], second["second"]) == (["", ""], ["note ", "process 1"])
    assert (first["both"], second["both"]) == (["note ", "process 0"], ["", ""])
    assert (first["exit"], second["exit"]) == (["note ", "exit 2"], ["", "exit 2"])
    assert "1 tasks cannot be shared" in first["few tasks"][1]
    assert second["few tasks"] == ["", ""]


def test_drift_is_found_and_the_first_process_is_followed(pair: Pair) -> None:
    (first, second) = (facts["aligned"] for facts, _ in pair)
    assert "hold different weights" in first[0]
    assert (second[0], first[1], second[1]) == ("", "4", "4")
    assert "started with different settings" in first[3]
    assert second[2:] == ["", ""]


def test_two_processes_train_as_one_does(pair: Pair) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        weights, metrics = train_cases(ALONE)
    finally:
        torch.set_num_threads(threads)
    (facts, shared), (others_facts, others) = pair
    assert weights.keys() == shared.keys() == others.keys()
    for name, leaf in weights.items():
        assert torch.equal(shared[name], others[name]), f"{name} differs between processes"
        assert (leaf - shared[name]).abs().max() <= 1e-6, name
    assert facts["metrics"] == others_facts["metrics"]
    for case in CASES:
        for alone, together in zip(metrics[case], facts["metrics"][case], strict=True):
            assert alone == pytest.approx(together, rel=1e-5, abs=1e-6), case
