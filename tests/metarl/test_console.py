"""The sink on the screen: what is shown on a terminal, and what elsewhere."""

import io
from collections.abc import Iterator
from contextlib import closing

from rich.console import Console

from metarl.console import ConsoleSink


def ticking(seconds: float) -> Iterator[float]:
    time = 0.0
    while True:
        yield time
        time += seconds


def shown(*, terminal: bool, iterations: int, columns: dict[str, str]) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, _environ={"TERM": "xterm"})
    clock = ticking(3.0)
    with closing(ConsoleSink(columns, 200, console, lambda: next(clock))) as sink:
        for iteration in range(1, iterations + 1):
            metrics = {"meta/post_return": 11.345 + iteration, "time/fps": 45_678.0}
            sink.write(iteration, 1_234_000 * iteration, metrics)
        sink.close()
    return file.getvalue()


def test_plain_lines_carry_the_figures_and_no_escapes() -> None:
    columns = {"meta/post_return": "after", "meta/gain": "gain"}
    lines = shown(terminal=False, iterations=12, columns=columns).splitlines()
    assert len(lines) == 12
    assert " ".join(lines[0].split()) == (
        "[ 1/200] 1.23M steps after 12.35 gain - 45.7k steps/s 0:09:57 left"
    )
    assert len({len(line) for line in lines}) == 1
    assert "\x1b" not in "".join(lines)


def test_plain_lines_are_not_wrapped() -> None:
    columns = {f"metric/{place}": f"a long heading {place}" for place in range(10)}
    assert len(shown(terminal=False, iterations=2, columns=columns).splitlines()) == 2


def test_terminal_shows_recent_rows_and_gives_the_cursor_back() -> None:
    text = shown(terminal=True, iterations=20, columns={"meta/post_return": "after"})
    last = text[text.rindex("iteration") :]
    assert "31.34" in last or "31.35" in last  # the last row
    assert "19.35" not in last  # row 8 of 20 has scrolled away
    assert "20/200" in last
    assert "0:09:00 left" in last
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_closing_a_console_that_was_never_used_prints_nothing() -> None:
    assert shown(terminal=True, iterations=0, columns={}) == ""
