"""``metarl report``: one file, nothing in it that came from a run can act, nothing is hidden."""

import html
import re
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from metarl.experiments.cli import main
from tests.experiments.report.written import FLOOR, NAVIGATION, write_run

EVIL = "</script><script>window.hacked=1</script>"


def test_one_file_that_names_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(write_run(tmp_path / "runs" / str(seed), seed)) for seed in (1, 2)]
    out = tmp_path / "deep" / "report.html"
    assert main(["report", *runs, "--out", str(out), "--title", "Two seeds"]) == 0
    said = capsys.readouterr()
    assert said.out == f"wrote {out}\n"
    assert said.err == ""
    assert [file.name for file in out.parent.iterdir()] == ["report.html"]
    page = out.read_text()
    assert "<h1>Two seeds</h1>" in page
    assert page.count("plotly.js v") == 1
    assert 4_000_000 < len(page) < 6_000_000


def test_links_lead_to_the_files_of_the_runs(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "a b:c#d")
    (run / "videos").mkdir()
    (run / "videos" / "clip?.mp4").write_bytes(b"video")
    out = tmp_path / "out" / "report.html"
    assert main(["report", str(run), "--out", str(out)]) == 0
    links = [html.unescape(link) for link in re.findall(r'href="([^"]*)"', _body(out))]
    files = [link for link in links if not link.startswith("#")]
    assert len(files) == 6
    assert all((out.parent / unquote(link)).exists() for link in files)
    inside = [link[1:] for link in links if link.startswith("#")]
    assert inside == ["environment-1"]
    assert 'id="environment-1"' in _body(out)


def test_a_folder_need_not_be_called_by_letters(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run\udcff")
    out = tmp_path / "report.html"
    assert main(["report", str(run), "--out", str(out)]) == 0
    assert 'href="run%FF/config.yaml"' in _body(out)


def test_runs_left_out_are_listed_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, unfinished, broken = (
        write_run(tmp_path / name, seed)
        for seed, name in enumerate(("good", "unfinished", "broken"))
    )
    (unfinished / "DONE").unlink()
    (broken / "metrics.jsonl").write_text("<b>\n{}\n")
    folders = [good, unfinished, broken, tmp_path / "missing<i>"]
    out = tmp_path / "report.html"
    assert main(["report", *map(str, folders), "--out", str(out)]) == 0
    body = _body(out)
    listed = re.findall(r"<li>(.*)</li>", body[body.index('id="left-out"') :])[:3]
    assert [html.unescape(line) for line in listed] == [
        line.removeprefix("left out: ") for line in capsys.readouterr().err.splitlines()
    ]
    assert "has not finished" in listed[0]
    assert "cannot be read" in listed[1]
    assert "missing&lt;i&gt; is not a run folder" in listed[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "report.pdf"], "--out must be a file that ends in .html, got report.pdf"),
        ([], "which runs?"),
        (["missing"], "missing is not a run folder"),
        (["missing", "--video-mb", "-1"], "video_mb must be a finite number >= 0, got -1.0"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "report.html")]
    assert main(["report", *arguments, *out]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_every_string_of_a_run_is_escaped(tmp_path: Path) -> None:
    run = write_evil_run(tmp_path)
    out = tmp_path / "report.html"
    assert (
        main(["report", str(run), str(tmp_path / EVIL[9:]), "--out", str(out), "--title", EVIL])
        == 0
    )
    page = out.read_text()
    assert "<script>window" not in page
    assert page.count("</script>") == 3
    assert page.count(html.escape(EVIL)) >= 5
    assert page.count(r"\u003cscript\u003ewindow") == 0, (
        "plotly reads tags: they come escaped twice"
    )


def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    assert main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "plotly" in said
    assert "pip install 'metarl-suite[report]'" in said


def write_evil_run(folder: Path) -> Path:
    """Write a run that has a script wherever it may have text."""
    return write_run(
        folder / "<img src=x onerror=window.hacked=2>",
        preset=EVIL,
        device=EVIL,
        floors={EVIL + "floor": FLOOR},
        env={**NAVIGATION, "goals": EVIL},
        agent={EVIL: EVIL},
    )


def _body(page: Path) -> str:
    """Return a page without its scripts."""
    text = page.read_text()
    return text[: text.index('<script type="application/json"')]
