"""Pools, what backends made of them, and what that cost."""

from provisioning.models.deployments import Container, Deployment, WrongState
from provisioning.models.ledger import CostEntry
from provisioning.models.pools import Pool

__all__ = ["Container", "CostEntry", "Deployment", "Pool", "WrongState"]
