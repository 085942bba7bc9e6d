"""Where a caller is, as far as a request for a call tells: the region that its client names, or the network's edge."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

from provisioning.regions import region_near

PARAMETER = "region"
HEADER = b"warmline-region"
LONGEST_QUERY = 2048


def region_of_request(query: bytes, headers: Mapping[bytes, bytes], *, edge_header: str) -> str:
    """Return the region near a caller; empty where nobody says, or says what is not understood.

    Args:
        headers: by their names in lower case.
        edge_header: in which a network that all requests come through says where the caller is; empty: none does.
    """
    named = parse_qs(query[:LONGEST_QUERY].decode("latin-1")).get(PARAMETER, [])
    told = [*named, _text(headers, HEADER)]
    if edge_header:
        told.append(_text(headers, edge_header.lower().encode()))
    return next((region for place in told if (region := region_near(place))), "")


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")
