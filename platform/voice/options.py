"""The gateway's limits, from the environment. Durations are seconds."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

from django.conf import settings

from config import env


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    database_url: str = dataclasses.field(repr=False)
    secret_key: str = dataclasses.field(repr=False)
    region: str
    internal_url: str
    """Where workers reach the tools' endpoint."""
    behind_proxy: bool = False
    """Whether callers' addresses are what the proxy before us says of them."""
    edge_region_header: str = ""
    """In which a network in front of the gateway says where a caller is: see voice.whereabouts."""

    max_call_seconds: int = 900
    """No call lasts longer, whatever its ticket says."""
    warn_before_seconds: int = 15
    reserve_seconds: float = 60.0
    """For a place on a container, its cold start included."""
    place_seconds: float = 15.0
    """For a place in one region while there is another to turn to; the last one has the time that is left."""
    handshake_seconds: float = 20.0
    """From connecting to a worker until it can talk."""
    checkpoint_seconds: float = 10.0
    lease_seconds: float = 35.0
    """A line is free again so long after the last checkpoint: three may be missed."""
    caller_silence_seconds: float = 60.0
    """Clients send audio all the time: a caller of whom nothing comes for so long is gone."""
    stuck_seconds: float = 20.0
    """How long one message may wait for its side to take it."""
    drain_seconds: float = 30.0
    """How long live calls may go on when the gateway is stopped."""
    database_seconds: float = 5.0
    """How long one transaction may take; a query that cannot even be cancelled is given up ten seconds later."""
    close_retry_seconds: float = 30.0
    """How long a call's end is tried to be written; the sweeper does it after that."""
    early_bytes: int = 256 * 1024
    """What a caller may send while no worker is there."""
    worker_silence_seconds: float = 10.0
    """A worker that says nothing for so long, and answers no ping, is lost."""
    failover_seconds: float = 20.0
    """How long another worker is looked for where every place refuses; one that is starting may take longer."""
    most_failovers: int = 5
    """How many workers one call may lose and go on."""
    resume_seconds: float = 30.0
    """How long a call waits for a caller who was lost and can come back."""
    away_bytes: int = 64 * 1024
    """What is kept of what the agent says meanwhile, the newest: about ten seconds of speech."""
    recording_part_seconds: float = 5.0
    """How often what was recorded is written: so much of it is lost with a gateway that is killed."""
    recording_write_seconds: float = 10.0
    """How long storage may take for that, before a recording stops."""
    budget_seconds: float = 5.0
    """How often it is read what is left of the period of a tenant whose calls will end by it."""
    most_calls: int = 1500
    """Callers of this process at a time; 0: no limit."""
    fleet_calls: int = 0
    """Calls of all tenants and gateways at a time; 0: no limit."""
    address_calls_per_minute: int = 300
    """How often one address may ask for a call; 0: no limit."""
    tenant_calls_per_minute: int = 600
    """How often calls of one tenant may begin; 0: no limit."""
    request_seconds: float = 10.0
    """How long a connection may take to say what it wants."""
    most_requests: int = 2000
    """Connections that have not said yet what they want; half of them may be one address's."""

    @classmethod
    def from_environment(cls) -> Self:
        """Read settings, and for each limit the variable GATEWAY_NAME."""
        limits: dict[str, Any] = {
            field.name: _read_limit(f"GATEWAY_{field.name.upper()}", field.default)
            for field in dataclasses.fields(cls)
            if isinstance(field.default, int | float) and not isinstance(field.default, bool)
        }
        return cls(
            database_url=settings.DATABASE_URL,
            secret_key=settings.SECRET_KEY,
            region=settings.REGION,
            internal_url=settings.INTERNAL_URL,
            behind_proxy=settings.BEHIND_PROXY,
            edge_region_header=settings.EDGE_REGION_HEADER,
            **limits,
        )


def _read_limit(name: str, default: int | float) -> int | float:
    return env.integer(name, default) if isinstance(default, int) else env.decimal(name, default)
