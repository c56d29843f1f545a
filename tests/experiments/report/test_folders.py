"""What a report shows of a run's folder: links that lead there, videos as far as they fit."""

import base64
from pathlib import Path

import pytest

from metarl.experiments.outcomes import read_outcome
from metarl.experiments.report.folders import Allowance, Clip, clips_of, view
from tests.experiments.report.written import write_run

MEGABYTE = 1_000_000


def write_video(folder: Path, name: str, size: int) -> Path:
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    file = folder / "videos" / name
    file.write_bytes(b"v" * size)
    return file


def embedded(clips: dict[Path, list[Clip]] | object) -> list[str]:
    assert isinstance(clips, dict)
    return [clip.link.text for row in clips.values() for clip in row if clip.source]


def test_a_video_is_in_the_page_and_linked(tmp_path: Path) -> None:
    write_video(tmp_path / "run", "task0.mp4", 30)
    write_video(tmp_path / "run", "notes.txt", 30)
    page = tmp_path / "pages" / "report.html"
    ((clip,),) = clips_of([tmp_path / "run"], page, Allowance(1.0, 1.0)).values()
    head, data = clip.source.split(",")
    assert head == "data:video/mp4;base64"
    assert base64.b64decode(data) == b"v" * 30
    assert clip.link == ("task0.mp4", "../run/videos/task0.mp4")
    assert clip.megabytes == 30 / MEGABYTE


def test_videos_that_do_not_fit_are_linked_only(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_video(tmp_path / name, f"{name}.gif", 600_000)
    write_video(tmp_path / "a", "large.mp4", 1_000_001)
    folders = [tmp_path / name for name in ("a", "b", "c")]
    allowed = clips_of(folders, tmp_path / "report.html", Allowance(each=1.0, total=1.2))
    assert embedded(allowed) == ["a.gif", "b.gif"]
    assert [len(clips) for clips in allowed.values()] == [2, 1, 1]
    generous = clips_of(folders, tmp_path / "report.html", Allowance(each=1.0001, total=9.0))
    assert embedded(generous) == ["a.gif", "large.mp4", "b.gif", "c.gif"]
    assert embedded(clips_of(folders, tmp_path / "report.html", Allowance(9.0, 0.0))) == []


def test_what_is_not_the_runs_own_is_not_copied(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not a video")
    folder = tmp_path / "run" / "videos"
    folder.mkdir(parents=True)
    (folder / "a.mp4").symlink_to(secret)
    (folder / "b.mp4").touch()
    ((a, b),) = clips_of([tmp_path / "run"], tmp_path / "r.html", Allowance(1.0, 1.0)).values()
    assert (a.source, b.source) == ("", "")


def test_a_run_is_shown_with_its_facts_and_files(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a:b #1?")
    shown = view(read_outcome(folder), [], tmp_path / "out" / "report.html")
    assert shown.folder.href == "../a%3Ab%20%231%3F"
    assert [file.text for file in shown.files] == [
        "config.yaml",
        "system.json",
        "metrics.jsonl",
        "eval/000003_tasks8_adaptations1.json",
    ]
    assert dict(shown.facts) == {
        "command": '["metarl", "train"]',
        "cpu_count": "2",
        "git.commit": "abcdef0123456789",
        "git.dirty": "false",
    }
    assert shown.commits == "abcdef01"
    assert "  hidden_sizes:\n" in shown.config


@pytest.mark.parametrize("content", [None, '{"sittings": []}', '{"sittings": [{}]}'])
def test_a_run_without_facts_has_none(tmp_path: Path, content: str | None) -> None:
    folder = write_run(tmp_path / "run")
    if content is None:
        (folder / "system.json").unlink()
        assert view(read_outcome(folder), [], tmp_path / "r.html").facts == []
        return
    outcome = read_outcome(folder)
    (folder / "system.json").write_text(content)
    assert view(outcome, [], tmp_path / "r.html").facts == []
