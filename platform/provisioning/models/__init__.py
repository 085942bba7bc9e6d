"""Pools, what backends made of them, and what that cost."""

from provisioning.models.accounts import Account, BackendStanding, PriceList
from provisioning.models.bills import BilledHour
from provisioning.models.deployments import Container, Deployment, WrongState
from provisioning.models.ledger import CostEntry
from provisioning.models.pools import Pool

__all__ = [
    "Account",
    "BackendStanding",
    "BilledHour",
    "Container",
    "CostEntry",
    "Deployment",
    "Pool",
    "PriceList",
    "WrongState",
]
