"""What Modal says its containers cost: the hourly report of a workspace, and today's prices.

Both as the SDK gives them (1.6.4). The report is for the Team plan and up. Prices are dollars an hour, under names such
as `gpu_hour_cost_a100_80gb`; where a container is bound to a region, a surcharge that is not among them comes on top.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Mapping

import modal

from provisioning.backends.contract import BilledCost, BillRefused, Rates

NANO_DOLLARS = 1_000_000_000
SECONDS_AN_HOUR = 3600
HOUR = datetime.timedelta(hours=1)

CPU_CORE, MEMORY_GIB = "cpu_hour_cost", "mem_gib_hour_cost"
GPUS = {
    "gpu_hour_cost_t4": "T4",
    "gpu_hour_cost_l4": "L4",
    "gpu_hour_cost_a10g": "A10",
    "gpu_hour_cost_l40s": "L40S",
    "gpu_hour_cost_a100_40gb": "A100-40GB",
    "gpu_hour_cost_a100_80gb": "A100-80GB",
    "gpu_hour_cost_h100": "H100",
    "gpu_hour_cost_h200": "H200",
    "gpu_hour_cost_b200": "B200",
}
"""Pools' GPUs by Modal's names for their prices."""
NOT_USED = frozenset(
    {
        "cpu_hour_cost_sandbox",
        "mem_gib_hour_cost_sandbox",
        "volume_storage_gib_month_cost",
        "egress_gib_cost",
        "gpu_hour_cost_b300",
        "gpu_hour_cost_rtx6000",
    }
)
"""Prices of what no pool can ask for."""


async def read_report(
    client: modal.Client, since: datetime.datetime, until: datetime.datetime, *, environment: str
) -> list[BilledCost]:
    """Return the lines of a workspace's report that carry this installation's tags.

    Raises:
        BillRefused: Modal does not show a report to this workspace.
        modal.exception.Error
    """
    workspace = modal.Workspace.from_context(client=client)
    try:
        rows = await workspace.billing.report.aio(start=since, end=until, resolution="h", tag_names=["*"])
    except (
        modal.exception.PermissionDeniedError,
        modal.exception.InvalidError,
        modal.exception.UnimplementedError,
    ) as problem:
        told = " ".join(str(problem).split())[:200]
        raise BillRefused(
            f"Modal shows no bill, which comes with its Team plan: costs stay estimates. It says: {told}"
        ) from problem
    return [
        BilledCost(
            deployment_name=row.description,
            tenant_id=row.tags.get("tenant", ""),
            since=row.interval_start,
            until=row.interval_start + HOUR,
            nano_dollars=_rounded(row.cost * NANO_DOLLARS),
            key=f"{row.object_id}:{row.interval_start.isoformat()}",
        )
        for row in rows
        if row.tags.get("warmline") == environment
    ]


async def read_rates(client: modal.Client) -> Rates:
    """Return a workspace's prices of today.

    Raises:
        modal.exception.Error
    """
    return rates_of(await modal.Workspace.from_context(client=client).billing.rates.aio())


def rates_of(told: Mapping[str, decimal.Decimal]) -> Rates:
    """Return Modal's prices in our words. A name that is not known, or a price that is none, is told and not used."""
    known = (CPU_CORE, MEMORY_GIB, *GPUS)
    a_second = {
        name: _rounded(price * NANO_DOLLARS / SECONDS_AN_HOUR)
        for name, price in told.items()
        if name in known and price.is_finite() and price > 0
    }
    return Rates(
        gpu={GPUS[name]: price for name, price in a_second.items() if name in GPUS},
        cpu_core=a_second.get(CPU_CORE),
        memory_gib=a_second.get(MEMORY_GIB),
        unknown=tuple(sorted(name for name in told if name not in a_second and name not in NOT_USED)),
    )


def _rounded(amount: decimal.Decimal) -> int:
    return int(amount.to_integral_value(rounding=decimal.ROUND_HALF_UP))
