"""A real headless Chromium, with a fake microphone that plays a file."""

from __future__ import annotations

import os
import shutil
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy
from playwright.sync_api import Browser, Playwright, sync_playwright

MICROPHONE_RATE_HZ = 48_000


def chromium_path() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "Chromium is missing: install it with `apt-get install chromium`."
    return path


@contextmanager
def running_playwright() -> Iterator[Playwright]:
    """Run what drives browsers. Only one can run at a time in a thread."""
    # Its synchronous interface keeps an event loop in this thread, which Django would take for asynchronous code.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    try:
        with sync_playwright() as playwright:
            yield playwright
    finally:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


def start_chromium(
    playwright: Playwright, *, microphone_wav: Path | None = None, refuse_microphone: bool = False
) -> Browser:
    """Start a browser; the caller closes it.

    Args:
        microphone_wav: what its microphone hears, once; 48 kHz mono, 16 bits. None: the browser has no microphone.
        refuse_microphone: the user says no when the page asks for it.
    """
    arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-gpu"]
    arguments.append("--deny-permission-prompts" if refuse_microphone else "--use-fake-ui-for-media-stream")
    if microphone_wav is not None:
        arguments += [
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-audio-capture={microphone_wav}%noloop",
        ]
    return playwright.chromium.launch(executable_path=chromium_path(), args=arguments)


def write_wav(path: Path, samples: numpy.ndarray) -> Path:
    """Write float samples of 48 kHz as a microphone file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(MICROPHONE_RATE_HZ)
        file.writeframes((numpy.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path
