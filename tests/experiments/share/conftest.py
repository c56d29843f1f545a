"""A run of the repository, and an export of it."""

import shutil
from pathlib import Path

import pytest

from metarl.experiments.cli import main

RUN = Path(__file__).resolve().parents[3] / "results" / "navigation"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export results/navigation once; tests copy what they change."""
    out = tmp_path_factory.mktemp("exports") / "navigation"
    assert main(["export", str(RUN), "--out", str(out), "--license", "mit"]) == 0
    return out


@pytest.fixture
def export(exported: Path, tmp_path: Path) -> Path:
    """Return a copy of the export, to change."""
    return Path(shutil.copytree(exported, tmp_path / "mine"))
