"""What every task distribution and every environment must keep to, as rules that can be run.

A rule is a function of a ``Subject`` that yields what is wrong: what came, and what is expected.
Each plays a few steps of a few episodes, so that all together take a fraction of a second where the
environment is quick.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from metarl.checks import EnvFaultError, told
from metarl.experiments.check.play import Subject
from metarl.experiments.check.steps import (
    differ_rule,
    extremes_rule,
    keep_rule,
    leak_rule,
    neighbours_rule,
    own_tasks_rule,
    reset_rule,
    restart_rule,
    same_bits_rule,
    step_rule,
    still_rule,
)
from metarl.experiments.check.tasks import disjoint_rule, held_out_rule, spec_rule, training_rule

Rule: TypeAlias = Callable[[Subject], Iterator[str]]

RULES: Mapping[str, Rule] = {
    "spec": spec_rule,
    "training tasks": training_rule,
    "held-out tasks": held_out_rule,
    "held-out tasks are not met in training": disjoint_rule,
    "reset": reset_rule,
    "step": step_rule,
    "same seed, same bits": same_bits_rule,
    "tasks are left as they are": own_tasks_rule,
    "tasks differ": differ_rule,
    "tasks are hidden": leak_rule,
    "copies that do not run stand still": still_rule,
    "tasks do not touch each other": neighbours_rule,
    "results are the caller's to keep": keep_rule,
    "actions beyond the limit": extremes_rule,
    "copies restart, where they can": restart_rule,
}
"""Every rule by its name, in the order in which they are best read."""


_GROUND = {"spec", "reset", "step"}
"""Where one of these does not hold, what the others would say is no news."""
_SEARCHES = {"tasks differ"}
"""What these do not find may be there all the same: a note, and no fault."""


class Finding(NamedTuple):
    """What came of one rule."""

    rule: str
    problem: str | None
    """None where the rule holds."""
    checked: bool = True
    """False where what every rule needs had failed before."""
    note: str | None = None
    """What is for the reader to judge."""


def check(subject: Subject) -> list[Finding]:
    """Run every rule, up to one that raises or on which the others stand."""
    found: list[Finding] = []
    failed = False
    for name, rule in RULES.items():
        if failed:
            found.append(Finding(name, None, checked=False))
            continue
        note = None
        try:
            problem = next(rule(subject), None)
        except EnvFaultError as error:
            problem, failed = str(error), True
        except Exception as error:
            problem, failed = told(error), True
        if name in _SEARCHES and not failed:
            problem, note = None, problem
        failed = failed or (name in _GROUND and problem is not None)
        found.append(Finding(name, problem, note=note))
    return found
