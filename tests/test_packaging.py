"""The wheel: it carries its XML, installs without a network, and steps an environment."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STEP_ONE_ENV = """
import torch, metarl.envs, metarl.agents, metarl.experiments.presets
from metarl.seeding import Streams
distribution, env = metarl.envs.build("metarl/HalfCheetahDir-v0", threads=1)
obs = env.reset(distribution.held_out(2), 3, Streams(1))
step = env.step(torch.zeros(2, 3, 6), torch.ones(2, 3, dtype=torch.bool))
assert step.obs.shape == (2, 3, 17)
print(metarl.envs.__file__)
"""


def test_wheel_installs_and_steps_an_env(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels)]
    copy = tmp_path / "source"
    _copy_sources(copy)
    subprocess.run([*build, str(copy)], check=True, cwd=tmp_path)
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    (wheel,) = wheels.glob("metarl_suite-*.whl")
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    install = [*pip, "install", "--no-deps", "--no-index", "--target", site, str(wheel)]
    subprocess.run(install, check=True, cwd=tmp_path)
    # Dependencies are found where this test found them; that folder's .pth files, and with them
    # the editable install of this checkout, play no part on PYTHONPATH.
    environment = os.environ | {"PYTHONPATH": sysconfig.get_paths()["purelib"]}
    shown = subprocess.run(
        [python, "-c", STEP_ONE_ENV],
        check=True,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    ).stdout
    assert Path(shown.strip()).is_relative_to(tmp_path)
    report = Path(site) / "metarl" / "experiments" / "report"
    assert {"page.html.jinja", "page.css", "page.js"} <= {file.name for file in report.iterdir()}


def _copy_sources(target: Path) -> None:
    """Copy what a build reads: building in the checkout itself would leave files there."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.split("\n")
    for name in filter(None, listed):
        source = ROOT / name
        if source.is_file() and not name.startswith(("results/", "tests/", "typings/")):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(source.read_bytes())
