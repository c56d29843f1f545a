"""What ``metarl train`` says before it begins of schedules that do not fit the run's length."""

from pathlib import Path

import pytest

from tests.experiments.test_cli import train


@pytest.mark.parametrize("preset", ["rl2/bandit", "reptile/bandit"])
def test_meta_iterations_in_which_nothing_is_learned_are_told_of(
    preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once steps have shrunk to 0."""
    flags = ("--tasks-per-update", "8", "--iterations", "2", "--evaluate-every", "0")
    for anneal_over, told in (("1", True), ("2", False), ("0", False)):
        out = tmp_path / anneal_over
        assert train(out, *flags, "--agent.anneal-over", anneal_over, preset=preset) == 0
        said = capsys.readouterr().err
        assert ("note: steps have shrunk to nothing after 1 of 2 meta-iterations" in said) == told
        assert "note: the discount" not in said
        assert not told or "--agent.anneal-over 2" in said
    lasting = ("--agent.anneal-over", "1", "--agent.outer-lr-final", "0.01")
    if preset.startswith("reptile"):
        assert train(tmp_path / "lasting", *flags, *lasting, preset=preset) == 0
        assert "note: steps" not in capsys.readouterr().err


def test_a_discount_that_does_not_get_there_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--tasks-per-update", "8", "--iterations", "2", "--evaluate-every", "0")
    for end, told in (("2", True), ("1", False)):
        rise = ("--agent.raise-discount", "1", end)
        assert train(tmp_path / end, *flags, *rise, preset="rl2/bandit") == 0
        assert ("note: the discount still rises when learning" in capsys.readouterr().err) == told
