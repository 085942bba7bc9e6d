"""Mails to owners about what ends and when, before it does. Each goes once: it is kept by what it is about."""

from __future__ import annotations

import dataclasses
import datetime

from django.conf import settings
from django.core.mail import send_mail
from django.utils import timezone

from billing.models import Notice, Subscription
from tenants.models import Membership, Tenant
from tenants.ownership import entered_tenant_id

DAY = datetime.timedelta(days=1)
BEFORE_TRIAL_ENDS = (3 * DAY, DAY)
BEFORE_GRACE_ENDS = (DAY,)


@dataclasses.dataclass(frozen=True)
class Mail:
    """`key`: what it is about; the same thing is never told twice."""

    key: str
    subject: str
    body: str


def due_notices(*, now: datetime.datetime | None = None) -> list[Mail]:
    """Return what the entered tenant's owners are to be told now and have not been."""
    now = now or timezone.now()
    tenant = Tenant.objects.get(pk=entered_tenant_id())
    subscription = Subscription.objects.select_related("plan", "next_plan").get()
    with timezone.override(tenant.time_zone):
        mails = [*_of_trial(tenant, subscription, now), *_of_payment(tenant, subscription, now)]
    told = set(Notice.objects.filter(key__in=[mail.key for mail in mails]).values_list("key", flat=True))
    return [mail for mail in mails if mail.key not in told]


def send_once(mail: Mail) -> bool:
    """Send a mail to the entered tenant's owners, unless it was sent before. Inside a transaction.

    Raises:
        OSError: the mail server cannot be reached; the mail counts as not sent.
    """
    # One at a time: who comes second sees what the first has sent.
    Subscription.objects.select_for_update().get()
    if Notice.objects.filter(key=mail.key).exists():
        return False
    addresses = list(Membership.objects.owners().values_list("user__email", flat=True))
    Notice.objects.create(key=mail.key)
    if addresses:
        send_mail(mail.subject, mail.body, None, addresses)
    return bool(addresses)


def _of_trial(tenant: Tenant, subscription: Subscription, now: datetime.datetime) -> list[Mail]:
    ends_at = subscription.trial_ends_at
    if subscription.status != Subscription.Status.TRIALING or ends_at is None or ends_at <= now:
        return []
    step = _step(ends_at - now, BEFORE_TRIAL_ENDS)
    if step is None:
        return []
    on = _day(ends_at)
    if subscription.next_plan is not None:
        follows = (
            f"The plan {subscription.next_plan.name} begins then, and its first month is charged. Nothing stops.\n\n"
            "To stay without it, cancel before that day:"
        )
    else:
        follows = (
            "From then on new calls are refused. Agents, calls, calendar and settings stay as they are, and calls are "
            "taken again as soon as you choose a plan:"
        )
    body = f"The trial of {tenant.name} ends on {on}.\n\n{follows}\n\n{_billing_page(tenant)}\n"
    key = f"trial-ends:{ends_at.date()}:{step.days}"
    return [Mail(key, f"The trial of {tenant.name} ends on {timezone.localtime(ends_at):%-d %B}", body)]


def _of_payment(tenant: Tenant, subscription: Subscription, now: datetime.datetime) -> list[Mail]:
    ends_at = subscription.grace_ends_at
    if subscription.status != Subscription.Status.PAST_DUE or ends_at is None:
        return []
    page = _billing_page(tenant)
    if ends_at <= now:
        then = "Calls are refused until it is paid. Agents, calls, calendar and settings stay as they are."
    else:
        then = f"Calls go on until {_day(ends_at)}. If it is not paid by then, new calls are refused; all data stays."
    mails = [
        Mail(
            f"payment-failed:{ends_at.date()}",
            f"A payment of {tenant.name} failed",
            f"An invoice of {tenant.name} could not be paid with the card on file.\n\n{then}\n\n"
            f"Pay it, or give another card:\n\n{page}\n",
        )
    ]
    if ends_at > now and (step := _step(ends_at - now, BEFORE_GRACE_ENDS)) is not None:
        mails.append(
            Mail(
                f"grace-ends:{ends_at.date()}:{step.days}",
                f"Calls of {tenant.name} stop on {timezone.localtime(ends_at):%-d %B}",
                f"An invoice of {tenant.name} is still unpaid. {then}\n\n{page}\n",
            )
        )
    return mails


def _step(left: datetime.timedelta, steps: tuple[datetime.timedelta, ...]) -> datetime.timedelta | None:
    """Return the last of the steps that has been reached: who was away for the first is told the second alone."""
    reached = [step for step in steps if left <= step]
    return min(reached, default=None)


def _day(moment: datetime.datetime) -> str:
    """Return a moment in the tenant's time, with the zone: "12 December at 09:30 (Europe/Paris)"."""
    local = timezone.localtime(moment)
    return f"{local:%-d %B at %H:%M} ({timezone.get_current_timezone_name()})"


def _billing_page(tenant: Tenant) -> str:
    return f"{settings.PUBLIC_URL}/t/{tenant.slug}/billing/"
