"""Importing the suite: light and silent."""

import subprocess
import sys

LAZY: tuple[str, ...] = ("matplotlib", "tensorboard", "torch.utils.tensorboard", "OpenGL")
LAZY += ("jinja2", "plotly", "wandb", "mlflow", "optuna", "sqlalchemy", "ray", "huggingface_hub")
LAZY += ("stable_baselines3",)


def test_import_loads_nothing_heavy_and_prints_nothing() -> None:
    code = (
        "import sys, metarl.envs, metarl.agents, metarl.trainer, metarl.experiments.cli\n"
        f"print([name for name in {LAZY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
    assert done.stderr == ""


def test_the_command_collects_garbage_again_once_it_has_imported_all() -> None:
    code = (
        "import gc, sys\n"
        "from metarl.experiments.__main__ import main\n"
        "sys.argv = ['metarl', '--version']\n"
        "main()\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[1:] == ["True True"]
