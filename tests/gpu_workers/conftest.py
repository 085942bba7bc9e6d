"""Workers shared by the tests of one run: loading models takes seconds, forking a loaded parent takes milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gpu_workers.batch_workers import wait_until_empty
from tests.gpu_workers.managed import ManagedWorker, managed_worker
from tests.gpu_workers.worker_processes import Zygote, loaded_zygote


@pytest.fixture(scope="session")
def worker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="session")
def zygote_socket(worker_folder: Path) -> Iterator[Path]:
    with loaded_zygote(worker_folder) as (path, _):
        yield path


@pytest.fixture
def zygote(zygote_socket: Path, tmp_path: Path) -> Iterator[Zygote]:
    client = Zygote(zygote_socket, tmp_path)
    yield client
    client.close()


@pytest.fixture
def worker(zygote: Zygote) -> dict[str, Any]:
    """A cascade worker of this test's own, restored from the shared parent."""
    return zygote.fork("worker")


@pytest.fixture(scope="session")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagedWorker]:
    with managed_worker(tmp_path_factory.mktemp("managed")) as worker:
        yield worker


@pytest.fixture(autouse=True)
async def all_places_free(request: pytest.FixtureRequest) -> None:
    """Wait until the last test's clients have left the worker that tests of a batch share."""
    if "port" in request.fixturenames:
        await wait_until_empty(request.getfixturevalue("port"))
