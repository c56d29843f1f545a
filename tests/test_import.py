"""Importing the suite: light and silent."""

import subprocess
import sys

LAZY = ("matplotlib", "tensorboard", "torch.utils.tensorboard", "stable_baselines3", "OpenGL")


def test_import_loads_nothing_heavy_and_prints_nothing() -> None:
    code = (
        "import sys, metarl.envs, metarl.agents, metarl.trainer, metarl.experiments.cli\n"
        f"print([name for name in {LAZY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
    assert done.stderr == ""
