"""What tests of pages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client
from playwright.sync_api import Playwright

from tests.web.browsers import running_playwright


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """One for a module: while it runs, no asynchronous test can."""
    with running_playwright() as running:
        yield running


@pytest.fixture
def visitor() -> Client:
    """Somebody who has not signed in."""
    return Client()
