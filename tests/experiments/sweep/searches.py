"""Searches whose runs are written down instead of trained: what they score is a formula."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from metarl.experiments.arguments import plain_console
from metarl.experiments.experiment import Experiment
from metarl.experiments.sweep.plan import Job
from metarl.experiments.sweep.search_batch import Search
from metarl.experiments.sweep.search_study import Study
from metarl.experiments.sweep.spec import Range, SweepSpec

METRIC = "validation/post_return"
Score = Callable[[Experiment, int], float]
"""What a run scores after so many meta-iterations."""
SPEC = SweepSpec(
    name="written",
    presets=("maml-trpo/bandit",),
    seeds=(1, 2),
    set={"iterations": 8},
    search={
        "agent.inner_lr": Range(low=0.01, high=10.0, log=True),
        "agent.policy.hidden_sizes": Range(choices=((8,), (8, 8))),
        "episodes": Range(low=2, high=40, integer=True),
    },
)


class Writer:
    """Writes the metrics of runs as if they had been trained; counts the iterations of each."""

    def __init__(self, score: Score, statuses: Mapping[str, int] | None = None) -> None:
        self.score = score
        self.statuses = dict(statuses or {})
        """Of the trials that fail, by their labels."""
        self.written: Counter[str] = Counter()
        self.kill_at = -1
        """How many runs to make before it is as if the driver were killed."""

    def __call__(self, jobs: Sequence[Job]) -> Mapping[str, int]:
        for job in jobs:
            if self.kill_at == 0:
                raise KeyboardInterrupt
            self.kill_at -= 1
            if job.label not in self.statuses:
                self._write(job)
        return {job.id: self.statuses.get(job.label, 0) for job in jobs}

    def _write(self, job: Job) -> None:
        job.folder.mkdir(parents=True, exist_ok=True)
        file, experiment = job.folder / "metrics.jsonl", job.experiment
        there = len(file.read_text().splitlines()) if file.exists() else 0
        with file.open("a") as stream:
            for at in range(there + 1, experiment.iterations + 1):
                row = {"iteration": at, "env_steps": at, METRIC: self.score(experiment, at)}
                stream.write(json.dumps(row) + "\n")
                self.written[job.id] += 1
        (job.folder / "DONE").touch()


def search_of(out: Path, writer: Writer, *, prune: bool = False, seed: int = 1) -> Search:
    out.mkdir(exist_ok=True)
    study = Study.open(out / "search.db", SPEC.search, seed, {"seed": seed})
    console = plain_console(quiet=True)
    return Search(SPEC, study, out, METRIC, prune, writer, lambda: False, console)
