"""Variables: their readers fail loudly, and `.env.example` names all of them with values that work."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from config import env
from voice.options import Options
from voice.telephony.serving import Limits
from voice.telephony.sip.options import SipOptions

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / ".env.example"
DIRECT_READ = re.compile(r"environ(?:\.get\(|\[)\"([A-Z_]+)\"")
# Between our own processes, or everybody's: nobody sets these for Warmline.
NOT_SETTINGS = {
    "WARMLINE_SESSION_KEY",
    "WARMLINE_ORDERED_NS",
    "PYTHONPATH",
    "NO_COLOR",
    "MODAL_TASK_ID",
    "MODAL_RESTORE_STATE_PATH",
    "WORKER_KIND",
    "WORKER_CHECKPOINT",
    "WORKER_MAX_SESSIONS",
    "WORKER_GRACE_SECONDS",
    "WORKER_STARTUP_SECONDS",
    "WORKER_HOST",
    "WORKER_WEIGHTS_PATH",
}


def named_in_example() -> set[str]:
    return set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", EXAMPLE.read_text(), re.MULTILINE))


def active_in_example() -> dict[str, str]:
    return dict(re.findall(r"^([A-Z][A-Z0-9_]*)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))


def read_by_us() -> set[str]:
    Options.from_environment()
    Limits.from_environment()
    SipOptions.from_environment()
    direct = {
        name
        for folder in ("platform", "gpu_workers")
        for path in (ROOT / folder).rglob("*.py")
        for name in DIRECT_READ.findall(path.read_text())
    }
    names = {name.removesuffix("_FILE") for name in env.READ | direct}
    return {name for name in names if not name.startswith("TEST_")} - NOT_SETTINGS


def run_manage(*arguments: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | variables,
    )


def test_the_example_names_every_variable_that_is_read_and_no_other() -> None:
    assert named_in_example() == read_by_us()


def test_the_examples_values_work(tmp_path: Path) -> None:
    found = run_manage("check", variables={**active_in_example(), "WARMLINE_STATE_DIR": str(tmp_path)})
    assert found.returncode == 0, found.stderr


def test_the_examples_commented_values_are_the_defaults(tmp_path: Path) -> None:
    shown = dict(re.findall(r"^#([A-Z][A-Z0-9_]*)=(.+)$", EXAMPLE.read_text(), re.MULTILINE))
    code = (
        "import json, django; django.setup(); from django.conf import settings; from voice.options import Options; "
        "print(json.dumps([repr({name: getattr(settings, name) for name in dir(settings) if name.isupper()}), "
        "repr(Options.from_environment())], default=str))"
    )

    def settings_with(variables: dict[str, str]) -> list[str]:
        given = {
            **variables,
            "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "PATH": os.environ["PATH"],
            "WARMLINE_STATE_DIR": str(tmp_path),
            "PYTHONHASHSEED": "0",
        }
        found = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True, env=given
        )
        without_addresses = re.sub(r" at 0x[0-9a-f]+", "", found.stdout)
        return json.loads(without_addresses)

    assert settings_with(shown) == settings_with({})


@pytest.mark.parametrize(
    ("reader", "value", "sentence"),
    [
        (lambda: env.boolean("TEST_VALUE", default=True), "perhaps", "must be true or false, not 'perhaps'"),
        (lambda: env.integer("TEST_VALUE", 1), "1.5", "must be a whole number"),
        (lambda: env.decimal("TEST_VALUE", 1), "soon", "must be a number"),
        (lambda: env.one_of("TEST_VALUE", "a", ("a", "b")), "c", "must be one of a, b"),
        (lambda: env.database("TEST_VALUE", os.environ["TEST_VALUE"]), "mysql://x/y", "postgresql://USER:PASSWORD"),
        (lambda: env.database("TEST_VALUE", os.environ["TEST_VALUE"]), "postgresql://h:port/y", "is not an address"),
    ],
)
def test_a_value_that_is_not_of_its_form_is_named(
    monkeypatch: pytest.MonkeyPatch, reader: object, value: str, sentence: str
) -> None:
    monkeypatch.setenv("TEST_VALUE", value)
    with pytest.raises(env.ConfigurationError, match=f"TEST_VALUE.*{sentence}"):
        reader()  # type: ignore[operator]


def test_a_secret_comes_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from the file\n")
    monkeypatch.setenv("TEST_SECRET_FILE", str(tmp_path / "secret"))
    assert env.secret("TEST_SECRET") == "from the file"
    monkeypatch.setenv("TEST_SECRET_FILE", str(tmp_path / "none"))
    with pytest.raises(env.ConfigurationError, match="cannot be read"):
        env.secret("TEST_SECRET")


def test_commands_find_the_demo_that_runs_on_the_state_folder(tmp_path: Path) -> None:
    (tmp_path / "running.json").write_text(json.dumps({"WARMLINE_REGION": "somewhere"}))
    code = "from config import settings; print(settings.REGION)"

    def region(**variables: str) -> str:
        given = {"PATH": os.environ["PATH"], "PYTHONPATH": "platform:.", "WARMLINE_STATE_DIR": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**given, **variables},
        ).stdout.strip()

    assert region() == "local", "a demo that was killed is not there any more"
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert region() == "somewhere"
        assert region(DATABASE_URL="postgresql://app@127.0.0.1/other") == "local"
        assert region(WARMLINE_REGION="here") == "here"
