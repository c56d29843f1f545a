"""What a search remembers, in a SQLite file of Optuna's, and how its next trial is drawn.

A trial's values are a function of the ranges, the seed, its number and the trials before it: a
search that was killed draws what it would have drawn. The sampler is the tree-structured Parzen
estimator of Bergstra et al. (2011), "Algorithms for hyper-parameter optimization".
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from metarl.checks import InputError
from metarl.experiments.sweep.spec import Range, Value
from metarl.runs import Config, differences

_NAME, _SETTINGS, _REASON = "metarl", "settings", "reason"
_STATES: Mapping[TrialState, str] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


class Trial(NamedTuple):
    """One point of the search."""

    number: int
    """From 0 on, in the order in which they were drawn."""
    values: Mapping[str, Value]
    """By the dotted name of the field."""
    state: str
    """``running``, ``complete``, ``pruned`` or ``failed``."""
    score: float | None
    """Mean over the seeds; of a pruned trial the one that it was pruned for."""
    reason: str
    """Why it was pruned or failed."""


class Study:
    """Owns the file of a search's trials."""

    def __init__(self, study: optuna.Study, ranges: Mapping[str, Range], seed: int) -> None:
        self._study, self._ranges, self._seed = study, ranges, seed

    @classmethod
    def open(cls, file: Path, ranges: Mapping[str, Range], seed: int, settings: Config) -> Self:
        """Start a search, or go on with the one in ``file``.

        ``settings`` is all that its course depends on.

        Raises:
            InputError: the file holds a search with other settings, or no search.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            if not file.exists():
                _create(file, settings)
            study = optuna.load_study(
                study_name=_NAME,
                storage=_url(file),
                sampler=optuna.samplers.RandomSampler(seed=0),  # Draws are made elsewhere.
                pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
            )
            held = json.loads(study.user_attrs[_SETTINGS])
        except (SQLAlchemyError, LookupError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                [
                    f"{file} cannot be read ({reason}); without it the search is drawn anew, and"
                    " finds the runs that are there"
                ]
            ) from error
        if lines := differences(held, settings, ()):
            raise InputError([f"{file} holds a search that differs; choose another --out", *lines])
        return cls(study, ranges, seed)

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order of their numbers."""
        return [
            Trial(
                number=frozen.number,
                values=_values(self._ranges, frozen.params),
                state=_STATES[frozen.state],
                score=frozen.value,
                reason=str(frozen.user_attrs.get(_REASON, "")),
            )
            for frozen in self._frozen()
        ]

    def draw(self) -> Trial:
        """Draw the next trial and write it down, both at once as far as a kill can tell."""
        earlier = self._frozen()
        distributions = {key: _distribution(allowed) for key, allowed in self._ranges.items()}
        sampler = optuna.samplers.TPESampler(seed=_key(self._seed, len(earlier)))
        # In memory: a trial on disk fills up value by value, and a kill could halve it.
        thought = optuna.create_study(direction="maximize", sampler=sampler)
        thought.add_trials(earlier)
        params = thought.ask(distributions).params
        self._study.add_trial(
            create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
        )
        return self.trials[-1]

    def report(self, number: int, iteration: int, score: float) -> None:
        """Say what a running trial scores after so many meta-iterations; twice does no harm."""
        if iteration not in self._frozen()[number].intermediate_values:
            self._open_trial(number).report(score, iteration)

    def is_hopeless(self, number: int) -> bool:
        """Whether what was reported last is below the median of complete trials at that point."""
        return self._open_trial(number).should_prune()

    def complete(self, number: int, score: float) -> None:
        """Say what a running trial has scored in the end."""
        self._study.tell(number, score)

    def give_up(self, number: int, reason: str, *, bad: bool) -> None:
        """Say that a running trial came to no end; ``bad`` if because of its values."""
        self._open_trial(number).set_user_attr(_REASON, reason)
        # Pruned ones are the worst to the sampler, which learns nothing from failed ones.
        self._study.tell(number, state=TrialState.PRUNED if bad else TrialState.FAIL)

    def _frozen(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _open_trial(self, number: int) -> optuna.Trial:
        return optuna.Trial(self._study, self._frozen()[number]._trial_id)


def _create(file: Path, settings: Config) -> None:
    """Write an empty study under another name first: a kill leaves a whole file or none."""
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    study = optuna.create_study(study_name=_NAME, storage=_url(part), direction="maximize")
    study.set_user_attr(_SETTINGS, json.dumps(settings))
    os.replace(part, file)


def _url(file: Path) -> str:
    return URL.create("sqlite", database=str(file.resolve())).render_as_string()


def _key(seed: int, number: int) -> int:
    """Return a seed of 32 bits for one trial's draw."""
    digest = hashlib.blake2b(repr((seed, number)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _distribution(allowed: Range) -> BaseDistribution:
    if allowed.choices:
        # As text: Optuna's own choices know no lists.
        return CategoricalDistribution([_text(choice) for choice in allowed.choices])
    if allowed.low is None or allowed.high is None:
        raise InputError([f"a range needs choices, or low and high, got {allowed}"])
    if allowed.integer:
        return IntDistribution(int(allowed.low), int(allowed.high), log=allowed.log)
    return FloatDistribution(allowed.low, allowed.high, log=allowed.log)


def _values(ranges: Mapping[str, Range], params: Mapping[str, object]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for key, allowed in ranges.items():
        param = params[key]
        if allowed.choices:
            values[key] = next(choice for choice in allowed.choices if _text(choice) == param)
        elif isinstance(param, int | float):
            values[key] = param
    return values


def _text(choice: Value) -> str:
    return json.dumps(choice)
