"""What every carrier does in the same way is tested with each of them."""

from __future__ import annotations

import pytest

from tests.voice.telephony.processes import STAND_INS

at_each_carrier = pytest.mark.parametrize("carrier", list(STAND_INS))
PRICE_NANO_DOLLARS = 8_500_000
"""What every stand-in asks for a call."""
