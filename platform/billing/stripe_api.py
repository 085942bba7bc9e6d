"""The way to Stripe: one client for the process, and its failures as sentences.

Nothing else in the platform makes a client. Where it talks to is a setting, so that Stripe's test mode or a stand-in
can be in its place. It is synchronous, and safe in the threads of synchronous views and tasks.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, overload

import structlog
from django.conf import settings

if TYPE_CHECKING:
    import stripe

TIMEOUT_SECONDS = 20
RETRIES = 2
"""Of the SDK's own, with the same idempotency key: what fails on the way is asked again within seconds."""

log = structlog.get_logger(__name__)


class BillingRefused(Exception):
    """A journey of billing goes no further. The sentence may be shown to who asked for it."""


class BillingOff(BillingRefused):
    """This installation has no Stripe keys."""

    def __init__(self) -> None:
        super().__init__("Billing is off on this installation: its operator has set no Stripe keys.")


class StripeRefused(BillingRefused):
    """Stripe said no, and would say so again. Its own words for people are kept where it has some."""


class StripeAway(BillingRefused):
    """Stripe could not be reached, or had a fault of its own: worth trying again."""

    def __init__(self) -> None:
        super().__init__("Stripe cannot be reached at the moment. Nothing was changed: try again in a minute.")


def is_on() -> bool:
    """Return whether this installation bills."""
    return bool(settings.STRIPE_SECRET_KEY)


def client() -> stripe.StripeClient:
    """Return the process's client.

    Raises:
        BillingOff: there are no keys.
    """
    if not is_on():
        raise BillingOff
    return _client(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_URL)


@functools.lru_cache(maxsize=4)
def _client(key: str, api_url: str) -> stripe.StripeClient:
    import stripe  # half of a second and many modules: only where somebody bills

    return stripe.StripeClient(
        key,
        base_addresses={"api": api_url, "meter_events": api_url, "files": api_url, "connect": api_url},
        max_network_retries=RETRIES,
        http_client=stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
    )


@contextlib.contextmanager
def speaking_to_stripe() -> Iterator[None]:
    """Turn the SDK's exceptions into ours.

    Raises:
        StripeRefused: a card was declined, or the request is wrong; the details of the latter go to the log.
        StripeAway
    """
    import stripe

    try:
        yield
    except stripe.CardError as problem:
        raise StripeRefused(problem.user_message or "The payment was declined.") from problem
    except (stripe.APIConnectionError, stripe.RateLimitError) as problem:
        log.warning("stripe.away", problem=str(problem))
        raise StripeAway from problem
    except stripe.InvalidRequestError as problem:
        log.error("stripe.refused", problem=str(problem), code=problem.code, request_id=problem.request_id)
        raise StripeRefused("Stripe did not accept this. The operator finds the reason in the log.") from problem
    except (stripe.AuthenticationError, stripe.PermissionError) as problem:
        log.error("stripe.keys_refused", problem=str(problem))
        raise StripeRefused("Stripe does not accept this installation's keys: its operator has to look.") from problem
    except stripe.StripeError as problem:
        log.warning("stripe.failed", problem=str(problem))
        raise StripeAway from problem


@overload
def moment(seconds: int) -> datetime.datetime: ...
@overload
def moment(seconds: int | None) -> datetime.datetime | None: ...
def moment(seconds: int | None) -> datetime.datetime | None:
    """Return a time of Stripe's, which are whole seconds of UTC."""
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def id_of(reference: Any) -> str:
    """Return the id of a reference, whether Stripe expanded it or not; "" where there is none."""
    if reference is None or isinstance(reference, str):
        return reference or ""
    return reference.id
