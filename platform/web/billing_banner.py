"""What stands above every page of a tenant whose calls will end, or have: what ends, when, and what helps."""

from __future__ import annotations

import dataclasses
import datetime

from django.utils import timezone

from billing.entitlements import why_calls_ended
from billing.models import Subscription


@dataclasses.dataclass(frozen=True)
class Banner:
    """`action`: the words of the link to the billing page, or none."""

    sentence: str
    action: str = ""
    is_bad: bool = False


def billing_banner() -> Banner | None:
    """Return what the entered tenant's members are to be told on every page."""
    subscription = Subscription.objects.select_related("next_plan").first()
    if subscription is None:
        return None
    is_unpaid = subscription.status == Subscription.Status.PAST_DUE
    if subscription.calls_have_ended:
        sentence = f"{why_calls_ended(subscription)} New calls are refused. Everything stays as it is."
        return Banner(sentence, "Pay" if is_unpaid else "Choose a plan", is_bad=True)
    if is_unpaid:
        until = f" Calls go on until {_day(subscription.grace_ends_at)}." if subscription.grace_ends_at else ""
        return Banner(f"An invoice is unpaid.{until}", "Pay it")
    if subscription.status != Subscription.Status.TRIALING or subscription.trial_ends_at is None:
        return None
    ends = f"The trial ends on {_day(subscription.trial_ends_at)}"
    if subscription.next_plan is not None:
        return Banner(f"{ends}, and {subscription.next_plan.name} begins: nothing stops.")
    days = (subscription.trial_ends_at - timezone.now()).days
    left = f", in {days} day{'' if days == 1 else 's'}" if days > 0 else ""
    return Banner(f"{ends}{left}: new calls are refused from then on, and everything else stays.", "Choose a plan")


def _day(moment: datetime.datetime) -> str:
    return f"{timezone.localtime(moment):%-d %B}"
