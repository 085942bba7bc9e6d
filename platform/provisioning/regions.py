"""Where pools run, and which region is tried after which."""

from __future__ import annotations

REGIONS = {
    "local": "This machine",
    "us-east": "United States, East",
    "us-west": "United States, West",
    "ca-central": "Canada, Central",
    "eu-west": "Europe, West",
    "ap-south": "Asia Pacific, South",
}
"""Modal's routing regions, and this machine."""

_NEAREST = {
    "us-east": ("ca-central", "us-west", "eu-west", "ap-south"),
    "us-west": ("us-east", "ca-central", "ap-south", "eu-west"),
    "ca-central": ("us-east", "us-west", "eu-west", "ap-south"),
    "eu-west": ("us-east", "ca-central", "ap-south", "us-west"),
    "ap-south": ("eu-west", "us-west", "us-east", "ca-central"),
}


def regions_by_nearness(region: str) -> list[str]:
    """Return all regions, the given one first; this machine's stands wherever it is, so it comes next."""
    ordered = [region, "local", *_NEAREST.get(region, ()), *REGIONS]
    return list(dict.fromkeys(ordered))
