"""The rules of ``metarl check``: every one can fail, and each says what came."""

import re
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from metarl.experiments.check.contract import RULES, check
from metarl.experiments.check.play import Played, Subject, difference
from metarl.types import Step
from tests.experiments.check.faulty_points import PointEnv, Points, findings

FAULTS: Mapping[str, tuple[str, str]] = {
    "no horizon": ("spec", "spec.horizon is 0; it must be a whole number from 1"),
    "out of range": ("training tasks", r"goal goes from .* to .*; parameters says -1 to 0.5"),
    "other shape": ("training tasks", r"parameter goal has shape \[4, 2\]; it must be \[4, 3\]"),
    "other name": ("training tasks", "tasks have goal; parameters names place"),
    "double": ("training tasks", "parameter goal is torch.float64; it must be torch.float32"),
    "global chance": ("training tasks", "other tasks from the same streams"),
    "row by row": ("training tasks", r"slots \[2, 3\] drew other tasks as a block of 2"),
    "one seed": ("training tasks", "four seeds drew the same 16 tasks"),
    "no test list": ("held-out tasks", "held_out_lists has held-out; it must have 'test'"),
    "unfrozen": ("held-out tasks", "the first 10 tasks of 'test' are not the same in every call"),
    "train on test": ("held-out tasks are not met in training", "held-out task 0 .* was drawn"),
    "flat": ("reset", r"reset: obs has shape \[4, 2, 1\]; it must be \[4, 2, 2\]"),
    "nan at reset": ("reset", r"reset: obs is nan at \[0, 1, 0\]; it must be finite"),
    "spec changes": ("reset", "spec became .*horizon=21.*; for every task it must be .*20"),
    "nan reward": ("step", r"step 1: reward is nan at \[0, 0\]; it must be finite"),
    "total reward": ("step", r"step 1: reward has shape \[4\]; it must be \[4, 2\]"),
    "float flags": ("step", "step 1: terminated is torch.float32; it must be torch.bool"),
    "tuple": ("step", "step returned tuple; it must be metarl.types.Step"),
    "raises": ("step", r"TypeError: .* \(faulty_points.py, line \d+, in step\)"),
    "writes actions": ("step", "step 1 wrote into the action"),
    "global noise": ("same seed, same bits", "obs differs from step 1 on: the same seed"),
    "writes tasks": ("tasks are left as they are", "changed its tasks' parameters"),
    "reads ids": ("tasks are left as they are", "rebuilt from its parameters went otherwise"),
    "reads no task": ("tasks differ", "4 tasks could not be told apart in 100 ep.* same seed"),
    "leaks": ("tasks are hidden", "can be told apart by the first observation"),
    "moves to the goal": ("tasks are hidden", "told apart by the observation of step 1: .*shows="),
    "never stands": ("copies that do not run stand still", "moved in step 1; it must stay"),
    "touches": ("copies that do not run stand still", "went otherwise in step 1 because another"),
    "counts tasks": ("tasks do not touch each other", "task 3 went otherwise as a block"),
    "in place": ("results are the caller's to keep", "reset: obs was written into by a later"),
    "explodes": ("actions beyond the limit", r"step 1: obs is not finite after actions of 1000"),
    "restarts all": ("copies restart, where they can", "does not restart must keep"),
    "restarts elsewhere": ("copies restart, where they can", "must start as reset starts it"),
}


def test_a_faultless_environment_passes_every_rule() -> None:
    assert [f for f in findings("none").values() if f.problem or f.note or not f.checked] == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_rule(fault: str) -> None:
    rule, said = FAULTS[fault]
    finding = findings(fault)[rule]
    assert re.search(said, finding.problem or finding.note or "")


@pytest.mark.parametrize("fault", ["flat", "nan reward", "raises", "no test list"])
def test_one_fault_is_told_once(fault: str) -> None:
    found = findings(fault)
    assert [f.rule for f in found.values() if f.problem] == [FAULTS[fault][0]]
    assert found["copies restart, where they can"].checked == (fault == "no test list")


def test_what_is_not_a_number_in_both_is_no_difference() -> None:
    nan = Played(*(torch.full((1, 1, 2), torch.nan) for _ in range(3)))
    assert list(difference(nan, nan, "")) == []
    zero = Played(*(torch.zeros(1, 1, 2) for _ in range(3)))
    assert len(list(difference(nan, zero, ""))) == 3


def test_every_rule_can_fail() -> None:
    assert {rule for rule, _ in FAULTS.values()} == set(RULES)


def test_what_a_task_may_show_is_declared() -> None:
    for fault, shows in (("leaks", "start"), ("moves to the goal", "dynamics")):
        subject = Subject(Points(fault), PointEnv(fault), shows)  # type: ignore[arg-type]
        assert all(finding.problem is None for finding in check(subject)), fault


class Counted(PointEnv):
    """Episodes of so many steps; counts those that it is asked for."""

    def __init__(self, horizon: int) -> None:
        super().__init__("")
        self.spec, self.asked = self.spec._replace(horizon=horizon), 0

    def step(self, action: Tensor, running: Tensor) -> Step:
        self.asked += 1
        step = super().step(action, running)
        assert isinstance(step, Step)
        return step


def test_long_episodes_are_not_gone_through_to_their_ends() -> None:
    short, long = Counted(20), Counted(10_000)
    for env in (short, long):
        assert all(finding.checked for finding in check(Subject(Points(""), env, "rewards")))
    assert 0 < short.asked == long.asked
