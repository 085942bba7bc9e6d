"""What a container costs a second: by the provider's own prices as far as it tells them, else by a dated table."""

from __future__ import annotations

import datetime
import functools
import tomllib
from pathlib import Path
from typing import Any

from provisioning.backends.contract import Rates

PRICES_FILE = Path(__file__).with_name("prices.toml")
MEBIBYTES_PER_GIBIBYTE = 1024


def rate_of(
    *,
    gpu: str,
    cpu_millicores: int,
    memory_mib: int,
    region: str,
    at_date: datetime.date | None = None,
    told: Rates | None = None,
) -> int:
    """Return nano-dollars a second of one container, rounded once.

    Args:
        told: the provider's prices, which take precedence. Its surcharges for regions are in the table alone.

    Raises:
        LookupError: the GPU has no price.
    """
    table = _table_of(at_date or datetime.datetime.now(datetime.UTC).date())
    computing = table["local"] if region == "local" else table
    gpus = {**table["gpu"], **(told.gpu if told else {})}
    cpu_core = (told and told.cpu_core) or computing["cpu_core"]
    memory_gib = (told and told.memory_gib) or computing["memory_gib"]
    if gpu and gpu not in gpus:
        raise LookupError(f"There is no price for the GPU {gpu}.")
    # In units of a thousandth of a core and of a mebibyte, so that the one division comes last.
    scaled = (
        (gpus[gpu] if gpu else 0) * 1000 * MEBIBYTES_PER_GIBIBYTE
        + cpu_core * cpu_millicores * MEBIBYTES_PER_GIBIBYTE
        + memory_gib * memory_mib * 1000
    ) * table["region_percent"].get(region, 100)
    unit = 1000 * MEBIBYTES_PER_GIBIBYTE * 100
    return (scaled + unit // 2) // unit


def gpu_names() -> tuple[str, ...]:
    """Return the GPUs that have a price, cheapest first."""
    return tuple(_tables()[-1]["gpu"])


def _table_of(date: datetime.date) -> dict[str, Any]:
    tables = _tables()
    return next((table for table in reversed(tables) if table["since"] <= date), tables[0])


@functools.cache
def _tables() -> list[dict[str, Any]]:
    return sorted(tomllib.loads(PRICES_FILE.read_text())["table"], key=lambda table: table["since"])
