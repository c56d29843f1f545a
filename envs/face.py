"""Which environment a face shows, and how: what its users choose, checked, and built."""

import dataclasses
import reprlib
from collections.abc import Mapping
from typing import Any

from metarl import envs
from metarl.checks import COUNT, InputError, field_names, unknown
from metarl.envs.own import OwnTasks
from metarl.envs.physics import default_threads
from metarl.envs.task_dicts import plain
from metarl.protocols import TaskDistribution, VectorTaskEnv

TRAIN = "train"
_MODES = ("rgb_array",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Face:
    """Which environment is shown, and how."""

    name: str | OwnTasks
    """A key of the table of environments, or tasks of the user's own."""
    preset: str | None = None
    """One of the family's published settings; its first where left out."""
    split: str = TRAIN
    """Where tasks come from: train, or a held-out list."""
    config: Mapping[str, Any] | envs.EnvConfig | None = None
    """Fields of the preset's config to change, such as the horizon; or a whole config."""
    render_mode: str | None = None
    """``rgb_array``, or None."""
    num_envs: int = 1
    """How many copies."""
    threads: int | None = None
    """Of the physics; all cores of this process where left out."""

    def __post_init__(self) -> None:
        # Users have typed these names, and never that of this class.
        counts = {"num_envs": self.num_envs}
        counts |= {} if self.threads is None else {"threads": self.threads}
        lines = [
            f"{name} must be {COUNT.text}, got {value!r}"
            for name, value in counts.items()
            if not COUNT.accepts(plain(value))
        ]
        if self.render_mode not in (None, *_MODES):
            lines.append(unknown("render_mode", self.render_mode, _MODES))
        if not isinstance(self.name, str | OwnTasks):
            known = "a name of the table, or tasks of your own such as a FromMjcf"
            lines.append(f"name must be {known}; got {reprlib.repr(self.name)}")
        if lines:
            raise InputError(lines)

    def build(self) -> tuple[TaskDistribution, VectorTaskEnv]:
        """Build the distribution and the environment.

        Raises:
            InputError: there is no such environment, preset or field, or the tasks are the user's
                own, which have neither presets nor fields.
        """
        threads = default_threads() if self.threads is None else int(self.threads)
        if isinstance(self.name, str):
            return envs.build(self.name, self._table_config(self.name), threads=threads)
        if self.preset is not None or self.config is not None:
            raise InputError([f"{self.name.name}: tasks of your own have no preset and no config"])
        return self.name.build("cpu", threads)

    def _table_config(self, name: str) -> envs.EnvConfig:
        base, given = envs.preset(name, self.preset), self.config
        if given is None:
            return base
        own = type(base)
        if isinstance(given, own):
            if self.preset is not None:
                raise InputError([f"{name}: give a preset or a whole {own.__name__}, not both"])
            return given
        if not isinstance(given, Mapping):
            need = f"a dict of fields of {own.__name__}, or a {own.__name__}"
            raise InputError([f"{name}: config must be {need}; got {reprlib.repr(given)}"])
        names = field_names(own)
        strangers = [field for field in given if field not in names]
        if strangers:
            owner = f"field of {own.__name__}"
            raise InputError(unknown(owner, field, names) for field in strangers)
        # Configs are kept as YAML, which knows no numbers of other libraries.
        changes: dict[str, Any] = {field: plain(value) for field, value in given.items()}
        return dataclasses.replace(base, **changes)
