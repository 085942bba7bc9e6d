"""A container's log, taken apart for people."""

from __future__ import annotations

import json

from web.log_lines import LogLine, read_log_lines


def test_a_workers_line_is_taken_apart() -> None:
    written = {
        "at": "2026-11-28T08:23:11.376+00:00",
        "level": "info",
        "logger": "gpu_workers.process",
        "message": "loaded",
        "load_ms": 299.8,
        "call_id": "",
    }
    (line,) = read_log_lines(json.dumps(written) + "\n\n")
    assert line == LogLine("loaded", "08:23:11.376", "info", (("logger", "gpu_workers.process"), ("load_ms", "299.8")))
    assert not line.is_bad


def test_an_exception_is_kept_with_its_lines() -> None:
    trace = "Traceback (most recent call last):\n  …\nValueError: no"
    written = {"event": "failed", "level": "ERROR", "timestamp": "not a time", "exception": trace, "deep": {"a": [1]}}
    (line,) = read_log_lines(json.dumps(written))
    assert (line.event, line.at, line.is_bad, line.long) == ("failed", "not a time", True, trace)
    assert line.rest == (("deep", '{"a": [1]}'),)


def test_what_is_no_line_of_ours_stands_as_it_is() -> None:
    lines = ["INFO vllm: started", "[1, 2]", '{"tokens": 7}', "{half", "7", 2000 * "["]
    assert [(line.event, line.at, line.rest) for line in read_log_lines("\n".join(lines))] == [
        (line, "", ()) for line in lines
    ]
