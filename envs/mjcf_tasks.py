"""What of a user's MuJoCo model differs from task to task: how it is said, drawn and written."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

from torch import Tensor

from metarl.checks import Allowed, InputError, check_fields
from metarl.envs.mujoco_env import Parameters
from metarl.envs.physics import BatchPhysics
from metarl.seeding import Streams
from metarl.types import Parameter

_NUMBER = Allowed(-1e6, 1e6, "a number from -1e6 to 1e6")
_RESERVED = "task_id"  # what a task's place in its list is called, where tasks are dicts
_LOWEST = {
    "body_mass": Allowed(0.0, 1e6, "above 0", low_open=True),
    "body_inertia": Allowed(0.0, 1e6, "above 0", low_open=True),
    "geom_friction": Allowed(0.0, 1e6, "at least 0"),
    "dof_damping": Allowed(0.0, 1e6, "at least 0"),
    "dof_armature": Allowed(0.0, 1e6, "at least 0"),
    "dof_frictionloss": Allowed(0.0, 1e6, "at least 0"),
}
"""Fields that no physics has below these; MuJoCo would go on without a word."""


@dataclass(frozen=True)
class Goal:
    """A number that the reward depends on and that the copy does not see."""

    name: str
    """Its name among the task's parameters."""
    _: KW_ONLY
    low: float
    """Tasks are drawn from here ..."""
    high: float
    """... to here."""
    unit: str = ""
    """Such as ``rad`` or ``m/s``."""
    text: str = "what the reward asks for"
    """What it is, in a few words."""
    shifted: tuple[float, float] | None = None
    """From where to where it lies in the split ``shifted``; as in training where left out."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class Vary:
    """What differs in the model from task to task, for one element that has a name in the MJCF."""

    field: str | tuple[str, ...]
    """A field of MuJoCo's model, such as ``body_mass``, or several that are changed alike."""
    element: str
    """Name of the body, joint, geom, ... that it belongs to; of the joint for ``dof_`` fields."""
    _: KW_ONLY
    low: float
    """Tasks are drawn from here ..."""
    high: float
    """... to here."""
    absolute: bool = False
    """Whether it is the value itself, instead of what the model's own value is multiplied by."""
    unit: str = ""
    """Of an absolute value."""
    shifted: tuple[float, float] | None = None
    """From where to where it lies in the split ``shifted``; as in training where left out."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that are changed."""
        return (self.field,) if isinstance(self.field, str) else self.field

    @property
    def name(self) -> str:
        """The name among the task's parameters."""
        return f"{self.element}.{self.fields[0]}"

    @property
    def text(self) -> str:
        """What it is, in a few words."""
        kind = "value" if self.absolute else "factor"
        return f"{kind} of {' and '.join(self.fields)} of {self.element}"


def _check(entry: Goal | Vary) -> None:
    owner, shifted = type(entry).__name__, entry.shifted
    _check_names(entry)
    check_fields(entry, {"low": _NUMBER, "high": _NUMBER})
    fits = shifted is None or (
        isinstance(shifted, tuple | list)
        and len(shifted) == 2
        and all(map(_NUMBER.accepts, shifted))
        and shifted[0] < shifted[1]
    )
    lines = []
    if not entry.low < entry.high:
        lines.append(f"low must be below high, got {entry.low} and {entry.high}")
    if not fits:
        lines.append(f"shifted must be two numbers, the lower first; got {shifted!r}")
    elif isinstance(entry, Vary):
        lowest = min((entry.low, *(shifted or ())))
        lines += [
            f"what {field} gets must be {_LOWEST[field].text}, got {lowest}"
            for field in entry.fields
            if field in _LOWEST and not _LOWEST[field].accepts(lowest)
        ]
    if lines:
        raise InputError([f"{owner} {entry.name}: {line}" for line in lines])


def _check_names(entry: Goal | Vary) -> None:
    owner = type(entry).__name__
    if isinstance(entry, Goal):
        if not isinstance(entry.name, str) or not entry.name:
            raise InputError([f"Goal.name must be a name, got {entry.name!r}"])
        if entry.name == _RESERVED:
            raise InputError([f"Goal.name must not be {_RESERVED!r}: tasks have that themselves"])
        return
    fields = entry.fields
    if not isinstance(fields, tuple) or not fields or not all(isinstance(f, str) for f in fields):
        raise InputError([f"{owner}.field must be a name or a tuple of names, got {entry.field!r}"])
    if not isinstance(entry.element, str) or not entry.element:
        raise InputError([f"{owner}.element must be a name, got {entry.element!r}"])


def refuse_unfit(physics: BatchPhysics, entry: Vary) -> None:
    """Refuse what the model has not, and one value for a field of many."""
    for field in entry.fields:
        rows = physics.rows_of(field, entry.element)
        numbers = physics.nominal(field)[rows].size
        if entry.absolute and numbers != 1:
            raise InputError(
                [
                    f"Vary {entry.name}: {field} of {entry.element} is {numbers} numbers;"
                    " an absolute value is for one, a factor for any"
                ]
            )


def about(entry: Goal | Vary) -> Parameter:
    """Describe a parameter, over all splits."""
    low, high = entry.shifted or (entry.low, entry.high)
    return Parameter(entry.text, entry.unit, (), min(low, entry.low), max(high, entry.high))


def draw(
    num_tasks: int, streams: Streams, ranges: Mapping[str, tuple[float, float]]
) -> dict[str, Tensor]:
    """Draw K tasks, each number from its range."""
    # In float64, rounded once: float32 could round the sum beyond the range.
    return {
        name: (low + streams.uniform(name, num_tasks, ()).double() * (high - low)).float()
        for name, (low, high) in ranges.items()
    }


def write(physics: BatchPhysics, parameters: Parameters, vary: Sequence[Vary]) -> None:
    """Write each copy's own values of what varies; a factor of 1 leaves the model as it is."""
    for entry in vary:
        for field in entry.fields:
            rows, values = physics.rows_of(field, entry.element), physics.expand(field)
            number = parameters[entry.name].reshape(-1, *[1] * (values.ndim - 1))
            if entry.absolute:
                values[:, rows] = number
            else:
                physics.scale(field, rows, number)
    physics.set_constants()
