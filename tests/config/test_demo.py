"""One command brings up the platform, and Ctrl-C takes it down."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.config.demos import Demo, left_behind, wait_until_gone
from tests.ports import free_port

pytestmark = pytest.mark.timeout(400)

SECOND_START_SECONDS = 20
"""Ten on an idle machine; here other tests may be running."""
COUNTS = "SELECT (SELECT count(*) FROM voice_call), (SELECT count(*) FROM tenants_user)"


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder on which a demo has run once, with `first.json`: what it printed and left."""
    folder = tmp_path_factory.mktemp("demo")
    with Demo(folder, *free_ports()) as demo:
        demo.until_ready()
        counts = demo.query(COUNTS)[0]
        code = demo.press_ctrl_c()
        (folder / "first.json").write_text(
            json.dumps({"lines": demo.lines, "code": code, "counts": counts, "left": left_behind(folder)})
        )
    return folder


@pytest.fixture(scope="module")
def first(state_dir: Path) -> dict[str, object]:
    return json.loads((state_dir / "first.json").read_text())


def free_ports() -> list[str]:
    return ["--port", str(free_port()), "--gateway-port", str(free_port())]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_it_prints_the_address_and_three_logins(first: dict[str, list[str]]) -> None:
    printed = "\n".join(first["lines"])
    assert re.search(r"^  http://localhost:\d+$", printed, re.MULTILINE)
    for who in ("operator", "tenant owner", "viewer"):
        assert re.search(rf"^  {who}\s+\S+@\S+\s+\S{{8,}}$", printed, re.MULTILINE)


def test_its_lines_say_whose_they_are_and_none_is_a_warning(first: dict[str, list[str]]) -> None:
    lines = first["lines"]
    begin, end = (next(n for n, line in enumerate(lines) if words in line) for words in ("is ready:", "Ctrl-C"))
    logged = [line for line in lines[:begin] + lines[end + 1 :] if line]
    with_a_name = re.compile(r"(warmline|web|gateway|tasks|beat|supervisor|database) +\| .")
    assert [line for line in logged if not with_a_name.match(line)] == []
    assert [line for line in logged if re.search(r"warning|error|traceback", line, re.IGNORECASE)] == []


def test_ctrl_c_ends_all_of_it_and_is_no_failure(first: dict[str, object]) -> None:
    assert first["code"] == 0
    assert first["left"] == []


def test_secrets_are_for_the_owner_of_the_state_folder_alone(state_dir: Path) -> None:
    assert stat.S_IMODE((state_dir / "secrets.json").stat().st_mode) == 0o600


def test_a_second_start_is_quick_keeps_the_data_and_replaces_a_taken_port(
    state_dir: Path, first: dict[str, object], taken_port: int
) -> None:
    with Demo(state_dir, "--port", str(taken_port), "--gateway-port", str(free_port())) as demo:
        assert demo.until_ready() < SECOND_START_SECONDS
        said = demo.until_line(f"Port {taken_port} is taken")
        address = demo.until_line("  http://localhost:").strip()
        assert address.rsplit(":", 1)[1] in said
        with urllib.request.urlopen(address, timeout=10) as page:
            assert page.status == 200
        assert list(demo.query(COUNTS)[0]) == first["counts"]

        refused = demo.manage("demo")
        assert refused.returncode == 1
        assert "already runs" in refused.stderr

        demo.until_line("deployment.ready")
        doctor = demo.manage("doctor", "--json")
        assert [each for each in json.loads(doctor.stdout) if each["state"] != "ok"] == []
        assert doctor.returncode == 0

        assert demo.press_ctrl_c() == 0
    assert left_behind(state_dir) == []


def test_when_a_process_dies_it_says_which_and_stops_the_others(state_dir: Path) -> None:
    with Demo(state_dir, *free_ports()) as demo:
        demo.until_ready()
        [gateway] = [
            int(folder.name)
            for folder in Path("/proc").glob("[0-9]*")
            if _is(folder, b"config.gateway", str(state_dir).encode())
        ]
        os.kill(gateway, signal.SIGKILL)
        assert demo.until_ended() == 1
        assert "gateway was killed by SIGKILL" in "\n".join(demo.lines)
    assert left_behind(state_dir) == []


def test_nothing_lives_on_when_it_is_killed_itself_and_it_starts_again(state_dir: Path) -> None:
    with Demo(state_dir, *free_ports()) as demo:
        demo.until_ready()
        demo.process.kill()
        demo.process.wait()
        wait_until_gone(state_dir)
    with Demo(state_dir, *free_ports()) as demo:
        demo.until_ready()
        assert demo.press_ctrl_c() == 0


def _is(folder: Path, word: bytes, marker: bytes) -> bool:
    try:
        return word in (folder / "cmdline").read_bytes() and marker in (folder / "environ").read_bytes()
    except OSError:
        return False
