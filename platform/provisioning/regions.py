"""Where pools run, which region is tried after which, and which is near a place that somebody names."""

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

_COUNTRIES = {
    # the Americas but Canada
    "us-east": """US UM PR VI MX GT BZ SV HN NI CR PA CU JM HT DO BS BM KY TC AG AI AW BB BL BQ CW DM GD GP KN LC MF MQ
        MS SX TT VC VG CO VE GY SR GF EC PE BO BR PY UY AR CL FK GS""",
    "ca-central": "CA GL PM",
    # the far side of the Pacific: cables to the west coast are shorter than those to India
    "us-west": "JP KR KP TW AU NZ FJ NC PF WS AS TO VU SB PG KI NR TV TK NU CK WF PN NF MH FM PW GU MP",
    # Europe, Africa, the eastern Mediterranean, Russia and central Asia
    "eu-west": """GB IE FR DE NL BE LU CH AT LI ES PT AD GI IT SM VA MT MC DK NO SE FI IS FO AX SJ BV EE LV LT PL CZ SK
        HU SI HR BA RS ME MK AL GR BG RO MD UA BY RU TR CY GE AM AZ KZ KG TJ TM UZ IM JE GG IL PS LB SY JO EG LY TN DZ
        MA EH MR ML NE TD SD SS ER DJ ET SO KE UG RW BI TZ CD CG GA GQ CM CF NG BJ TG GH CI BF LR SL GN GW SN GM CV ST
        AO ZM MW MZ ZW BW NA SZ LS ZA MG KM SH AQ""",
    # the Gulf, south and south-east Asia, and the Indian Ocean
    "ap-south": """AE BH KW OM QA SA YE IQ IR AF PK IN LK MV NP BT BD MM TH LA KH VN MY SG BN ID TL PH CN HK MO MN IO CC
        CX HM TF MU RE YT SC""",
}
_REGION_OF_COUNTRY = {code: region for region, codes in _COUNTRIES.items() for code in codes.split()}

_AREAS = {
    "us-west": "us-west",
    "us": "us-east",
    "northamerica": "ca-central",
    "ca": "ca-central",
    "mx": "us-east",
    "sa": "us-east",
    "southamerica": "us-east",
    "eu": "eu-west",
    "europe": "eu-west",
    "africa": "eu-west",
    "af": "eu-west",
    "il": "eu-west",
    "me": "ap-south",
    "ap-northeast": "us-west",
    "ap": "ap-south",
    "asia-northeast": "us-west",
    "asia": "ap-south",
    "australia": "us-west",
}
"""How clouds' codes of regions begin, as `eu-central-1` and `europe-west4`."""


def regions_by_nearness(region: str) -> list[str]:
    """Return all regions, the given one first; this machine's stands wherever it is, so it comes next."""
    ordered = [region, "local", *_NEAREST.get(region, ()), *REGIONS]
    return list(dict.fromkeys(ordered))


def region_near(place: str) -> str:
    """Return the region near a place; empty where it is not understood.

    Args:
        place: one of our regions, a country's code (ISO 3166-1 alpha-2), or a cloud's code of a region.
    """
    place = place.strip()
    if place.lower() in REGIONS:
        return place.lower()
    if "-" not in place:
        return _REGION_OF_COUNTRY.get(place.upper(), "")
    area, _, rest = place.lower().partition("-")
    return _AREAS.get(f"{area}-{rest.partition('-')[0].rstrip('0123456789')}") or _AREAS.get(area, "")
