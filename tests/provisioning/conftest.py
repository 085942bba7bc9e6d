from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from django.conf import settings as django_settings

from provisioning.backends.local.backend import LocalBackend
from tests.provisioning.supervisors import TOKEN, Supervisor, running_supervisor


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """A running supervisor, which the settings point at."""
    with running_supervisor() as running:
        monkeypatch.setattr(django_settings, "LOCAL_SUPERVISOR_URL", running.url)
        monkeypatch.setattr(django_settings, "LOCAL_SUPERVISOR_TOKEN", TOKEN)
        yield running


@pytest.fixture
async def backend(supervisor: Supervisor) -> AsyncIterator[LocalBackend]:
    async with supervisor.backend() as opened:
        yield opened
