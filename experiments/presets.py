"""Named settings, one function each: ``<agent>/<task>``, or ``<agent>/<task>@<paper>``.

The functions stand in one file for each agent, ``presets_<agent>.py``.
"""

from collections.abc import Callable, Mapping

from metarl.checks import InputError, unknown
from metarl.experiments.experiment import Experiment
from metarl.experiments.presets_fomaml import FOMAML
from metarl.experiments.presets_maml import MAML
from metarl.experiments.presets_reptile import REPTILE

PRESETS: Mapping[str, Callable[[], Experiment]] = {
    make().preset: make for make in (*MAML, *FOMAML, *REPTILE)
}


def preset(name: str) -> Experiment:
    """Return the experiment of a preset.

    Raises:
        ValueError: no such preset; the message holds the nearest name.
    """
    if name not in PRESETS:
        raise InputError([unknown("preset", name, PRESETS)])
    return PRESETS[name]()
