"""What people do with pools: making, changing, switching off; what is refused says why."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from provisioning.backends.contract import Autoscaling
from provisioning.models import Pool
from provisioning.pools import change_pool, create_pool, set_enabled, try_again
from tenants.models import AuditEntry, Tenant, User
from tenants.scope import NoTenantEntered, enter_tenant
from tests.factories import create_tenant


def sentences(problem: ValidationError) -> dict[str, str]:
    return {field: " ".join(messages) for field, messages in problem.message_dict.items()}


def test_a_pool_is_made_and_audited(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        pool = create_pool(actor=alice, worker="cascade", region="local", backend="local", min_containers=1)
        entry = AuditEntry.objects.get(action="pool.created")
        assert (entry.actor, entry.target, entry.details["min_containers"]) == (alice, str(pool), 1)
        assert Pool.objects.get() == pool


def test_a_change_says_what_it_was_and_what_it_is(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        pool = create_pool(actor=alice, max_containers=2)
        change_pool(pool=pool, actor=alice, max_containers=3, snapshots=pool.snapshots)
        assert AuditEntry.objects.get(action="pool.changed").details == {"max_containers": [2, 3]}
        assert Pool.objects.get().max_containers == 3


def test_a_change_that_changes_nothing_leaves_no_trace(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        pool = create_pool(actor=alice)
        change_pool(pool=pool, actor=alice, max_containers=pool.max_containers)
        assert not AuditEntry.objects.filter(action="pool.changed").exists()


def test_what_a_pool_is_for_cannot_be_changed(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        pool = create_pool(actor=alice)
        with pytest.raises(TypeError, match="region"):
            change_pool(pool=pool, actor=alice, region="eu-west")


def test_a_pool_is_switched_off_and_on_again(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        pool = create_pool(actor=alice)
        set_enabled(pool=pool, actor=alice, enabled=False)
        set_enabled(pool=pool, actor=alice, enabled=False)
        assert not Pool.objects.enabled().exists()
        set_enabled(pool=pool, actor=alice, enabled=True)
        try_again(pool=pool, actor=alice)
        actions = list(AuditEntry.objects.filter(action__startswith="pool.").values_list("action", flat=True))
        assert sorted(actions) == ["pool.created", "pool.disabled", "pool.enabled", "pool.tried_again"]


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({"min_containers": 4, "max_containers": 2}, "min_containers", "At least 4 and at most 2"),
        ({"min_containers": 1, "buffer_containers": 2, "max_containers": 2}, "buffer_containers", "more than the 2"),
        ({"sessions_per_container": 0}, "sessions_per_container", "greater than or equal to 1"),
        ({"scaledown_window_seconds": 1}, "scaledown_window_seconds", "greater than or equal to 2"),
        ({"gpu": "L4"}, "gpu", "runs on the CPU"),
        ({"gpu": "Z9", "region": "us-east"}, "gpu", "Z9 is not a known GPU"),
        ({"region": "us-east"}, "region", "runs on this machine"),
        ({"region": "moon"}, "region", "not a valid choice"),
        ({"worker": "toaster"}, "worker", "not a valid choice"),
        ({"backend": "abacus"}, "backend", "not a valid choice"),
        ({"is_shared": True}, "is_shared", "Only the operator's pools"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    acme: Tenant, alice: User, fields: dict[str, Any], field: str, sentence: str
) -> None:
    with enter_tenant(acme.id):
        with pytest.raises(ValidationError) as refusal:
            create_pool(actor=alice, **fields)
        assert sentence in sentences(refusal.value)[field]
        assert not Pool.objects.exists()


def test_a_second_pool_of_one_worker_in_one_region_is_refused(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        create_pool(actor=alice)
        with pytest.raises(ValidationError, match="There is a pool of this worker in this region already"):
            create_pool(actor=alice)


def test_the_plan_limits_warm_containers_over_all_pools(charlie: User) -> None:
    starter = create_tenant(name="Small", owner=charlie, plan="starter")
    with enter_tenant(starter.id):
        pool = create_pool(actor=charlie, min_containers=1)
        with pytest.raises(ValidationError, match="Starter plan keeps up to 1 containers warm"):
            change_pool(pool=pool, actor=charlie, min_containers=2)
        with pytest.raises(ValidationError, match="your other pools have 1"):
            create_pool(actor=charlie, worker="moshi", min_containers=1)
        create_pool(actor=charlie, worker="moshi", min_containers=0)


OFFICE = {
    "days": [0, 1, 2, 3, 4],
    "begins_at": "08:00",
    "ends_at": "18:00",
    "min_containers": 2,
    "buffer_containers": 1,
}


def test_warm_hours_are_kept_told_in_the_trail_and_need_no_new_deployment(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        pool = create_pool(actor=alice, max_containers=3)
        before = pool.spec().spec_hash()
        change_pool(pool=pool, actor=alice, warm_hours=[OFFICE])
        assert AuditEntry.objects.get(action="pool.changed").details == {
            "warm_hours": [[], ["Mon–Fri 08:00–18:00: 2 warm, 1 in reserve"]]
        }
        kept = Pool.objects.get()
        assert kept.warm_hours == [OFFICE] and kept.spec().spec_hash() == before


def test_in_warm_hours_their_numbers_hold_in_the_place_of_the_pools_own(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        Tenant.objects.filter(pk=acme.pk).update(time_zone="America/New_York")
        pool = create_pool(actor=alice, min_containers=1, max_containers=3, warm_hours=[OFFICE])
        monday = datetime.datetime(2026, 11, 30, 13, 0, tzinfo=datetime.UTC)  # 08:00 in New York
        assert pool.autoscaling_at(monday) == Autoscaling(2, 1, 3, 300)
        assert pool.autoscaling_at(monday - datetime.timedelta(minutes=1)) == Autoscaling(1, 0, 3, 300)
        set_enabled(pool=pool, actor=alice, enabled=False)
        assert pool.autoscaling_at(monday).min_containers == 0


@pytest.mark.parametrize(
    ("windows", "sentence"),
    [
        ([{**OFFICE, "min_containers": 3}], "3 warm, 1 in reserve are more than the 3 containers"),
        ([OFFICE, {**OFFICE, "days": [4, 5]}], "overlap"),
        ([{**OFFICE, "days": []}], "at least one day"),
    ],
)
def test_warm_hours_that_cannot_be_are_refused(acme: Tenant, alice: User, windows: Any, sentence: str) -> None:
    with enter_tenant(acme.id):
        pool = create_pool(actor=alice, max_containers=3)
        with pytest.raises(ValidationError) as refusal:
            change_pool(pool=pool, actor=alice, warm_hours=windows)
        assert sentence in sentences(refusal.value)["warm_hours"]


def test_the_hours_in_which_a_pool_keeps_most_count_for_the_plan(charlie: User) -> None:
    starter = create_tenant(name="Small", owner=charlie, plan="starter")
    with enter_tenant(starter.id):
        one = {**OFFICE, "min_containers": 1}
        pool = create_pool(actor=charlie, warm_hours=[one])
        with pytest.raises(ValidationError, match="Starter plan keeps up to 1 containers warm") as refusal:
            change_pool(pool=pool, actor=charlie, max_containers=3, warm_hours=[OFFICE])
        assert set(refusal.value.message_dict) == {"warm_hours"}
        with pytest.raises(ValidationError, match="your other pools have 1"):
            create_pool(actor=charlie, worker="moshi", warm_hours=[one])


def test_the_plan_limits_the_regions_that_pools_are_in(charlie: User) -> None:
    starter = create_tenant(name="Small", owner=charlie, plan="starter")
    with enter_tenant(starter.id):
        create_pool(actor=charlie, backend="modal", region="us-east")
        with pytest.raises(
            ValidationError, match="Starter plan serves up to 1 region, .* you would have 2: eu-west, us-east"
        ):
            create_pool(actor=charlie, backend="modal", region="eu-west")
        create_pool(actor=charlie, backend="modal", region="us-east", worker="moshi")


def test_the_operators_pools_may_be_shared(house: Tenant) -> None:
    with enter_tenant(house.id):
        assert create_pool(actor=None, is_shared=True).is_shared


def test_no_pool_is_made_outside_a_tenant(acme: Tenant) -> None:
    with pytest.raises(NoTenantEntered):
        create_pool(actor=None)
