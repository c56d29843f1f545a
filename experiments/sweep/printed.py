"""Commands instead of runs, for other launchers."""

import shlex
import sys
from collections.abc import Mapping, Sequence

from metarl.experiments.sweep.plan import Job, LaunchRequest, Watch, command_of


def launch_print(jobs: Sequence[Job], request: LaunchRequest, _watch: Watch) -> Mapping[str, int]:
    """Write one command per line, quoted for a shell, and run nothing."""
    threads = str(request.threads)
    for job in jobs:
        command = shlex.join(("metarl", *command_of(job), "--threads", threads))
        sys.stdout.write(f"OMP_NUM_THREADS={threads} {command}\n")
    return {}
