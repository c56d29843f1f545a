"""Named settings, one function each: ``<agent>/<task>``, or ``<agent>/<task>@<paper>``.

The functions stand in one file for each agent, ``presets_<agent>.py``.
"""

from collections.abc import Callable, Mapping

from metarl.checks import InputError, unknown
from metarl.experiments.experiment import Experiment
from metarl.experiments.presets_anil import ANIL
from metarl.experiments.presets_cavia import CAVIA
from metarl.experiments.presets_emaml import EMAML
from metarl.experiments.presets_fomaml import FOMAML
from metarl.experiments.presets_imaml import IMAML
from metarl.experiments.presets_maml import MAML
from metarl.experiments.presets_meta_sgd import META_SGD
from metarl.experiments.presets_promp import PROMP
from metarl.experiments.presets_references import REFERENCES
from metarl.experiments.presets_reptile import REPTILE
from metarl.experiments.presets_rl2 import RL2

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
