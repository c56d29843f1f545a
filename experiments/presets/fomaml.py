"""Presets of FOMAML, MAML past whose adaptation the outer step is taken; Reptile's sibling."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from metarl.agents.maml import MamlTrpoConfig
from metarl.experiments.experiment import Experiment
from metarl.experiments.presets.maml import maml_half_cheetah_dir, maml_navigation


def fomaml_navigation() -> Experiment:
    """FOMAML on 2-D navigation (Finn et al. 2017, section 5.2): MAML's preset, first order.

    The outer step is MAML's TRPO. Finn et al. and Nichol et al. try FOMAML on images, with a
    gradient step outside, which is ``maml-vpg`` with ``first_order``.
    """
    return _first_order(maml_navigation())


def fomaml_half_cheetah_dir() -> Experiment:
    """FOMAML on half-cheetah direction: MAML's preset with the settings of ProMP, first order."""
    return _first_order(maml_half_cheetah_dir())


def _first_order(experiment: Experiment) -> Experiment:
    assert isinstance(experiment.agent, MamlTrpoConfig)
    agent = replace(experiment.agent, first_order=True)
    return replace(experiment, preset=f"{experiment.preset}@first-order", agent=agent)


FOMAML: Sequence[Callable[[], Experiment]] = (fomaml_navigation, fomaml_half_cheetah_dir)
