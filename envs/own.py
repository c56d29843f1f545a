"""A user's own tasks: what the three doors have in common.

Through ``FromMjcf`` (``from_mjcf.py``) comes a MuJoCo model with a reward, through
``FromGymnasium`` (``from_gymnasium.py``) a Gymnasium environment that takes tasks, and through
``FromTensors`` anything that is written against ``metarl/protocols.py``. ``metarl check`` checks
each of them.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from metarl.envs import Shows
from metarl.protocols import TaskDistribution, VectorTaskEnv


@runtime_checkable
class OwnTasks(Protocol):
    """A task distribution with its environment, which can be built anywhere."""

    @property
    def name(self) -> str:
        """What results are kept under, such as ``my/CartPole-v0``."""
        ...

    @property
    def shows(self) -> Shows:
        """Where a task shows itself."""
        ...

    def build(self, device: str, threads: int) -> tuple[TaskDistribution, VectorTaskEnv]:
        """Build both, for tensors on ``device``; ``threads`` is how many cores may be used."""
        ...


@runtime_checkable
class CanHurry(OwnTasks, Protocol):
    """Tasks whose environment may take long over a step, and gives up after a while."""

    def within(self, seconds: float) -> OwnTasks:
        """Return the same tasks, whose environment gives up after so many seconds at most."""
        ...


class FromTensors(NamedTuple):
    """Tasks whose distribution and environment the user wrote as tensors."""

    name: str
    """Such as ``my/Valley-v0``."""
    build: Callable[[str, int], tuple[TaskDistribution, VectorTaskEnv]]
    """(device, threads) to the distribution and the environment."""
    shows: Shows = "rewards"
    """Where a task shows itself: in rewards alone; in the dynamics too; or at the first sight."""
