"""What every environment refuses: tasks and actions that are another's."""

from collections.abc import Iterable, Sequence

from torch import Tensor

from metarl.checks import InputError
from metarl.types import EnvSpec, Tasks


def refuse_other_tasks(spec: EnvSpec, parameters: Iterable[str], tasks: Tasks) -> None:
    """Raise InputError where the tasks have other parameters than the environment's."""
    expected = set(parameters)
    if set(tasks.parameter) != expected:
        raise InputError(
            [
                f"{spec.name} takes tasks with {', '.join(sorted(expected))};"
                f" got {', '.join(sorted(tasks.parameter))}"
            ]
        )


def refuse_other_actions(spec: EnvSpec, action: Tensor, copies: Sequence[int]) -> None:
    """Raise ValueError where actions are not [K, E, A], or [K, E] where they are choices."""
    expected = tuple(copies) if spec.discrete else (*copies, spec.action_size)
    if tuple(action.shape) != expected:
        raise ValueError(f"{spec.name}: action is {tuple(action.shape)}, not {expected}")
