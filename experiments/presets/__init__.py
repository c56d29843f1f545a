"""Named settings, one function each: ``<agent>/<task>``, or ``<agent>/<task>@<paper>``.

The functions stand in one file for each agent.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from metarl import envs
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
    """Return the experiment of a preset, or what it says carried over to another environment.

    ``<preset>+<environment>`` has the agent and the amounts of the preset on any environment of
    ``envs.ENVS``, named without ``metarl/``, at its default setting, or at one of the others
    behind an ``@``: ``promp/half-cheetah-dir+AntGoal-v0@maml-2017``.

    Raises:
        InputError: no such preset, environment or setting; the message holds the nearest name.
    """
    own, carried, elsewhere = name.partition("+")
    if own not in PRESETS:
        raise InputError([unknown("presets", own, PRESETS)])
    experiment = PRESETS[own]()
    if not carried:
        return experiment
    env, chosen, setting = elsewhere.partition("@")
    known = {full.removeprefix("metarl/"): full for full in envs.ENVS}
    if env not in known:
        raise InputError([unknown(f"environment of {name!r}", env, known)])
    config = envs.preset(known[env], setting if chosen else None)
    return replace(experiment, preset=name, env=config)
