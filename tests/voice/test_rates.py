"""How often somebody may ask: the arithmetic."""

from __future__ import annotations

from voice.rates import Rates


def test_a_minutes_worth_may_come_at_once_and_then_one_by_one() -> None:
    rates: Rates[str] = Rates(6)
    assert [rates.take("here", 100.0) for _ in range(8)] == [True] * 6 + [False] * 2
    assert rates.take("there", 100.0)
    assert not rates.take("here", 109.0)
    assert rates.take("here", 110.0) and not rates.take("here", 110.0)
    assert [rates.take("here", 300.0) for _ in range(7)] == [True] * 6 + [False]


def test_trying_again_and_again_makes_nobody_wait_longer() -> None:
    rates: Rates[str] = Rates(60)
    for _ in range(1000):
        rates.take("here", 50.0)
    assert rates.take("here", 51.0)


def test_no_limit_is_no_limit() -> None:
    rates: Rates[str] = Rates(0)
    assert all(rates.take("here", 1.0) for _ in range(10_000)) and not len(rates)


def test_a_flood_of_addresses_is_not_kept_without_end() -> None:
    rates: Rates[int] = Rates(60, most_keys=1000)
    for number in range(50_000):
        assert rates.take(number, number / 100_000)
        assert len(rates) <= 1000
    assert rates.take(49_999, 0.5)
