"""What the functions of a body return and raise, checked as they are called.

They may be a user's own. Shapes and kinds alone are looked at: that costs nothing beside a step.
"""

from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

import numpy as np
from numpy.typing import NDArray

from metarl.checks import EnvFaultError, told

Given = TypeVarTuple("Given")
Returned = TypeVar("Returned")
_NUMBERS = "fiub"  # kinds of dtypes; a flag counts as 0 or 1


def asked(what: str, function: Callable[[*Given], Returned], *given: *Given) -> Returned:
    """Call a function of a body; ``what`` names the environment, the function and the step.

    Raises:
        EnvFaultError: it raised; the message says what and in which line.
    """
    try:
        return function(*given)
    except EnvFaultError:
        raise
    except Exception as error:
        raise EnvFaultError(f"{what} raised {told(error)}") from error


def numbers(
    what: str, shape: tuple[int, ...], function: Callable[[*Given], object], *given: *Given
) -> NDArray[Any]:
    """Return what a function returns: an array of numbers of that shape.

    Raises:
        EnvFaultError: it returned something else, or raised.
    """
    value = asked(what, function, *given)
    if isinstance(value, np.ndarray) and value.shape == shape and value.dtype.kind in _NUMBERS:
        return value
    raise EnvFaultError(
        f"{what} must return an array {_axes(shape)} of numbers, got {_kind(value)}"
    )


def flags(
    what: str, shape: tuple[int, ...], function: Callable[[*Given], object], *given: *Given
) -> NDArray[np.bool_]:
    """Return what a function returns: an array of bool of that shape.

    Raises:
        EnvFaultError: it returned something else, or raised.
    """
    value = asked(what, function, *given)
    if isinstance(value, np.ndarray) and value.shape == shape and value.dtype == np.bool_:
        return value
    raise EnvFaultError(f"{what} must return an array {_axes(shape)} of bool, got {_kind(value)}")


def rows(
    what: str, number: int, function: Callable[[*Given], object], *given: *Given
) -> NDArray[Any]:
    """Return what a function returns: an array of numbers with so many rows.

    Raises:
        EnvFaultError: it returned something else, or raised.
    """
    value = asked(what, function, *given)
    if not isinstance(value, np.ndarray) or value.shape[:1] != (number,):
        raise EnvFaultError(f"{what} must return an array ({number}, ...), got {_kind(value)}")
    return value


def side_by_side(
    what: str, number: int, function: Callable[[*Given], object], *given: *Given
) -> NDArray[np.float32]:
    """Return the parts [N, ...] that a function returns as one array [N, O].

    Raises:
        EnvFaultError: it returned something else, or raised.
    """
    parts = asked(what, function, *given)
    if not isinstance(parts, tuple | list) or not parts:
        raise EnvFaultError(
            f"{what} must return a tuple of arrays, such as (physics.qpos, physics.qvel);"
            f" got {_kind(parts)}"
        )
    try:
        whole = np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind")
    except (ValueError, TypeError):
        whole = np.zeros((0, 0), np.float32)
    if whole.ndim == 2 and len(whole) == number:
        return whole
    kinds = ", ".join(map(_kind, parts))
    raise EnvFaultError(f"{what} must return arrays ({number}, n) of numbers, got {kinds}")


def _axes(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {_axes(value.shape)} of {value.dtype}"
    return f"{type(value).__name__} {value!r:.40}"
