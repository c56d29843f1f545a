"""Named settings, one function each: ``<agent>/<task>``, or ``<agent>/<task>@<paper>``.

The functions stand in one file for each agent.
"""

from collections.abc import Callable, Mapping

from metarl.checks import InputError, unknown
from metarl.experiments.experiment import Experiment
from metarl.experiments.presets.anil import ANIL
from metarl.experiments.presets.cavia import CAVIA
from metarl.experiments.presets.emaml import EMAML
from metarl.experiments.presets.fomaml import FOMAML
from metarl.experiments.presets.imaml import IMAML
from metarl.experiments.presets.maml import MAML
from metarl.experiments.presets.meta_sgd import META_SGD
from metarl.experiments.presets.promp import PROMP
from metarl.experiments.presets.references import REFERENCES
from metarl.experiments.presets.reptile import REPTILE
from metarl.experiments.presets.rl2 import RL2

PRESETS: Mapping[str, Callable[[], Experiment]] = {
    make().preset: make
    for make in (
        *MAML,
        *FOMAML,
        *IMAML,
        *EMAML,
        *PROMP,
        *META_SGD,
        *ANIL,
        *CAVIA,
        *REPTILE,
        *RL2,
        *REFERENCES,
    )
}


def preset(name: str) -> Experiment:
    """Return the experiment of a preset.

    Raises:
        ValueError: no such preset; the message holds the nearest name.
    """
    if name not in PRESETS:
        raise InputError([unknown("preset", name, PRESETS)])
    return PRESETS[name]()
