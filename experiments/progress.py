"""What a run has reached, the same in each of its processes."""

import hashlib

import torch

from metarl.checkpoint import Checkpoint
from metarl.checks import InputError
from metarl.experiments.experiment import Experiment, Parts, build, to_dict
from metarl.processes import Processes
from metarl.runs import config_id
from metarl.trainer import Iteration

RULES, STOPPED = "rules", "stopped"
"""In checkpoints and in DONE: the rules that may stop a run early, and those that did."""


class DriftError(RuntimeError):
    """Processes that should hold the same weights do not."""


class Progress:
    """Owns what a run has reached, the same in every process: the agent and the steps so far."""

    def __init__(self, experiment: Experiment, processes: Processes) -> None:
        self.experiment, self.processes = experiment, processes
        self.parts: Parts = build(experiment, processes)
        self.iteration, self.env_steps = 0, 0
        self.stopped: str | None = None
        """The rules that ended training before its last meta-iteration, where some did."""
        self.rules: str | None = None
        """All rules that may end it early, where there are some."""

    @property
    def over(self) -> bool:
        """Whether nothing is left to train."""
        return self.stopped is not None or self.iteration >= self.experiment.iterations

    @property
    def facts(self) -> dict[str, object]:
        """How far the run has come, and what may stop it early, or did."""
        ends = {RULES: self.rules, STOPPED: self.stopped}
        told = {name: rule for name, rule in ends.items() if rule is not None}
        return {"iteration": self.iteration, "env_steps": self.env_steps, **told}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self.parts.agent.load_state_dict(checkpoint.tensors)
        self.iteration = checkpoint.iteration
        self.env_steps = int(str(checkpoint.state["env_steps"]))
        ends = (checkpoint.state.get(name) for name in (RULES, STOPPED))
        self.rules, self.stopped = (None if rule is None else str(rule) for rule in ends)

    def align(self) -> None:
        """Take over what the first process has read from its disk.

        Raises:
            InputError: the processes were started with different settings.
        """
        settings = config_id(to_dict(self.experiment), ("threads",))
        if not self.processes.agree(settings):
            raise InputError(
                [
                    "the processes were started with different settings; only --threads may"
                    f" differ: process {self.processes.rank} has preset"
                    f" {self.experiment.preset} with settings {settings}"
                ]
            )
        agent = self.parts.agent
        state = agent.state_dict()
        reached = torch.tensor([self.iteration, self.env_steps, self.stopped is not None])
        reached, *leaves = self.processes.from_first([reached, *state.values()])
        self.iteration, self.env_steps, stopped = (int(number) for number in reached.tolist())
        self.stopped = (self.stopped or "by the first process") if stopped else None
        agent.load_state_dict(dict(zip(state, leaves, strict=True)))

    def count(self, result: Iteration) -> None:
        """Count an iteration."""
        self.iteration, self.env_steps = result.number, self.env_steps + result.env_steps

    def refuse_drift(self) -> None:
        """Compare the processes' weights bit for bit.

        Raises:
            DriftError: they differ; the first process says so.
        """
        if self.processes.size == 1:
            return
        digest = hashlib.sha256()
        for leaf in self.parts.agent.state_dict().values():
            digest.update(leaf.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        if not self.processes.agree(digest.hexdigest()):
            said = (
                f"after meta-iteration {self.iteration} the {self.processes.size} processes hold"
                " different weights, which are not saved; they must run the same versions on"
                " machines of one kind. The same command goes on from the last checkpoint."
            )
            raise DriftError(said if self.processes.leads else "")

    def checkpoint(self, more: dict[str, object]) -> Checkpoint:
        """Return what is to be saved of this iteration."""
        state = {name: fact for name, fact in self.facts.items() if name != "iteration"}
        return Checkpoint(self.iteration, self.parts.agent.state_dict(), state | more)
