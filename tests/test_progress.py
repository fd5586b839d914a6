"""A file or a pipe gets a line soon and then every half minute; what is short says nothing. The clock is a made one."""

import logging
import time

import pytest

from captioner.progress import duration, log_while_waiting, progress


class Clock:
    """Each step of the work takes so many seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def worked(seconds: float, items: object, caplog: pytest.LogCaptureFixture, **about: object) -> list[str]:
    """What is logged where each item takes so long."""
    clock = Clock()
    with caplog.at_level(logging.INFO, "captioner"):
        for _ in progress(items, "features", clock=clock, **about):  # type: ignore[arg-type]
            clock.now += seconds
    return [record.getMessage() for record in caplog.records]


def test_a_line_comes_soon_and_then_every_half_minute(caplog: pytest.LogCaptureFixture) -> None:
    lines = worked(0.25, range(1000), caplog)  # 250 s
    assert lines[:3] == [
        "features: 8 of 1,000 images (0 %), 4.0 a second, 4:08 left",
        "features: 128 of 1,000 images (12 %), 4.0 a second, 3:38 left",
        "features: 248 of 1,000 images (24 %), 4.0 a second, 3:08 left",
    ]
    assert len(lines) == 1 + (250 - 2) // 30 + 1
    assert lines[-1] == "features: 1,000 images in 4:10"


def test_what_is_done_at_once_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert worked(0.001, range(1000), caplog) == []
    assert worked(1000, [], caplog) == []
    assert worked(1000, [1], caplog) == []


def test_slow_steps_have_their_seconds_and_a_stream_without_an_end_no_time_left(caplog: pytest.LogCaptureFixture) -> None:
    assert worked(50, [1, 2], caplog, unit="batch") == [
        "features: 1 of 2 batches (50 %), 50.0 seconds each, 0:50 left",
        "features: 2 batches in 1:40",
    ]
    caplog.clear()
    assert worked(50, iter([1, 2]), caplog, unit="word")[0] == "features: 1 word, 50.0 seconds each"
    caplog.clear()
    assert worked(5000, iter([1, 2]), caplog, total=3)[0] == "features: 1 of 3 images (33 %), 5000.0 seconds each, 2:46:40 left"


def test_items_pass_through_as_they_are_and_as_they_come(caplog: pytest.LogCaptureFixture) -> None:
    taken = []

    def items() -> object:
        for item in "abc":
            taken.append(item)
            yield item

    passing = progress(items(), "letters")  # type: ignore[arg-type]
    assert taken == []
    assert next(passing) == "a"
    assert taken == ["a"]
    assert list(passing) == ["b", "c"]


def test_a_terminal_has_a_bar_and_no_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert worked(100, range(3), caplog) == []
    assert "features" in capsys.readouterr().err


def test_another_program_is_waited_for_with_a_line_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "captioner"):
        with log_while_waiting("SPICE", every=0.01):
            while not caplog.records:
                time.sleep(0.005)
        told = len(caplog.records)
    assert caplog.records[0].getMessage() == "SPICE: still at work after 0:00"
    assert told == len(caplog.records)


@pytest.mark.parametrize(("seconds", "said"), [(0, "0:00"), (65, "1:05"), (59.6, "1:00"), (7200, "2:00:00")])
def test_spans_are_minutes_and_seconds(seconds: float, said: str) -> None:
    assert duration(seconds) == said
