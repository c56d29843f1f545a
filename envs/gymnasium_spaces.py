"""The first look at a user's environment: its spaces, read in a process of its own."""

import multiprocessing
from collections.abc import Callable
from typing import Any, TypeAlias

from gymnasium import spaces
from gymnasium.vector.utils import CloudpickleWrapper

from metarl.bundle import AnyEnv, tell_spaces
from metarl.checks import EnvFaultError, InputError
from metarl.envs.gymnasium_workers import GUARD, ending

Spaces: TypeAlias = tuple[spaces.Space[Any], spaces.Space[Any]]


def spaces_of(name: str, make: Callable[[], AnyEnv], timeout: float) -> Spaces:
    """Return the observation space and the action space of what ``make`` makes.

    Raises:
        InputError: ``make`` cannot be sent to another process.
        EnvFaultError: it raised, its process died, or it did not return within ``timeout`` seconds.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=tell_spaces, args=(theirs, name), daemon=True)
    try:
        process.start()
        theirs.close()
        _send(name, ours, make)
        if not ours.poll(timeout):
            raise EnvFaultError(
                f"{name}: make did not return within {timeout:g} s: does its import, or its"
                " constructor, ever end? (FromGymnasium.timeout)"
            )
        found: Spaces | str = ours.recv()
    except (EOFError, OSError):
        process.join(1.0)
        raise EnvFaultError(
            f"{name}: the process that made the first environment {ending(process.exitcode)};"
            f" {GUARD}"
        ) from None
    finally:
        ours.close()
        if process.pid is not None:
            process.kill()
            process.join()
    if isinstance(found, str):
        raise EnvFaultError(found)
    return found


def _send(name: str, pipe: Any, make: Callable[[], AnyEnv]) -> None:
    try:
        pipe.send(CloudpickleWrapper(make))
    except OSError:
        raise
    except Exception as error:
        raise InputError(
            [f"{name}: make cannot be sent to a worker process: {type(error).__name__}: {error}"]
        ) from error
