"""What the README shows runs as it stands there."""

import re
from pathlib import Path
from typing import Any

import torch

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def test_quickstart_runs_and_acts() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["action"].shape == (1, 20, 2)
    assert torch.isfinite(names["action"]).all()


def test_commands_and_links_exist() -> None:
    root = Path(__file__).resolve().parents[1]
    makefile = (root / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)`", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (root / link).exists(), link
