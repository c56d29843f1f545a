"""What tests of users' environments ask for by name."""

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.envs.echoes import USER_CODE


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module with the user's environments, which workers can import too."""
    monkeypatch.syspath_prepend(str(USER_CODE))
    yield importlib.import_module("echo")
    sys.modules.pop("echo", None)
