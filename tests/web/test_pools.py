"""Pools: what stands, making and changing them, and a container's log."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.test import override_settings

from provisioning import applying
from provisioning.models import Container, CostEntry, Deployment, Pool
from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_tenant
from tests.provisioning.supervisors import TOKEN, running_supervisor
from tests.web import factories
from tests.web.pages import words

SHAPE = {
    "min_containers": "1",
    "buffer_containers": "0",
    "max_containers": "3",
    "sessions_per_container": "4",
    "scaledown_window_seconds": "120",
    "snapshots": "on",
    "gpu": "",
    "cpu_millicores": "1000",
    "memory_mib": "1024",
    "image": "",
    "checkpoint": "",
    "startup_timeout_seconds": "120",
    "exit_grace_seconds": "60",
}
NEW = {**SHAPE, "worker": "cascade", "region": "local", "backend": "local"}


@pytest.fixture
def pool(acme: Tenant) -> Pool:
    with enter_tenant(acme.id):
        return factories.create_ready_pool(max_containers=4)[0]


def stored(pool: Pool) -> Pool:
    with enter_tenant(pool.tenant_id):
        return Pool.objects.get(pk=pool.pk)


def test_the_list_says_how_pools_stand(client_of: Any, acme: Tenant, pool: Pool, bob: User) -> None:
    with enter_tenant(acme.id):
        CostEntry.objects.create(
            pool_id=pool.pk, part="idle_warm", nano_dollars=2_000_000, occurred_at=pool.created_at, idempotency_key="i"
        )
    said = words(client_of(bob).get("/t/acme/pools/").content.decode())
    assert "Cascade This machine ready 1 ready 2 of 4 restored 1 1 warm, 4 at most $0.002000" in said


def test_without_a_pool_it_says_where_calls_run(client_of: Any, acme: Tenant, bob: User, dora: User) -> None:
    assert (
        "Calls run on the containers that the operator shares" in client_of(bob).get("/t/acme/pools/").content.decode()
    )
    assert "Make a pool" in client_of(dora).get("/t/acme/pools/").content.decode()


def test_the_state_is_fetched_as_a_part_of_the_page(client_of: Any, pool: Pool, bob: User) -> None:
    for address in ("/t/acme/pools/", f"/t/acme/pools/{pool.pk}/"):
        part = client_of(bob).get(address, headers={"HX-Request": "true"}).content.decode()
        assert "<html" not in part and "ready" in part
        assert "Settings" not in part


def test_a_pool_is_made_and_audited(client_of: Any, acme: Tenant, dora: User) -> None:
    answer = client_of(dora).post("/t/acme/pools/new/", NEW)
    with enter_tenant(acme.id):
        made = Pool.objects.get()
        assert AuditEntry.objects.filter(action="pool.created", actor=dora).exists()
    assert answer.headers["Location"] == f"/t/acme/pools/{made.pk}/"
    assert (made.min_containers, made.max_containers, made.scaledown_window_seconds) == (1, 3, 120)
    page = words(client_of(dora).get(f"/t/acme/pools/{made.pk}/").content.decode())
    assert "Nothing was deployed yet." in page and "waiting" in page


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"min_containers": "5"}, "At least 5 and at most 3 containers cannot both be."),
        ({"buffer_containers": "3"}, "1 always warm and 3 in reserve are more than the 3 allowed at most."),
        ({"max_containers": ""}, "This field is required."),
        ({"min_containers": "-1"}, "greater than or equal to 0"),
        ({"scaledown_window_seconds": "99999"}, "less than or equal to 3600"),
        ({"min_containers": "90", "max_containers": "90"}, "containers warm"),
        ({"region": "eu-west"}, "The local backend runs on this machine"),
        ({"worker": "abacus"}, "abacus is not one of the available choices"),
    ],
)
def test_what_cannot_be_is_told_beside_what_was_typed(
    change: dict[str, str], sentence: str, client_of: Any, acme: Tenant, dora: User
) -> None:
    answer = client_of(dora).post("/t/acme/pools/new/", {**NEW, **change})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert sentence in page
    assert 'value="120"' in page or "99999" in page
    with enter_tenant(acme.id):
        assert not Pool.objects.exists()


def test_a_second_pool_of_the_same_worker_and_region_is_refused(client_of: Any, pool: Pool, dora: User) -> None:
    answer = client_of(dora).post("/t/acme/pools/new/", NEW)
    assert "There is a pool of this worker in this region already" in answer.content.decode()


def test_only_the_operators_own_tenant_may_share_a_pool(client_of: Any, acme: Tenant, dora: User) -> None:
    client = client_of(dora)
    assert "is_shared" not in client.get("/t/acme/pools/new/").content.decode()
    client.post("/t/acme/pools/new/", {**NEW, "is_shared": "on"})
    with enter_tenant(acme.id):
        assert not Pool.objects.get().is_shared


def test_limits_are_changed(client_of: Any, acme: Tenant, pool: Pool, dora: User) -> None:
    answer = client_of(dora).post(f"/t/acme/pools/{pool.pk}/change/", {**SHAPE, "max_containers": "2"}, follow=True)
    assert "Saved. It is being applied; calls go on." in answer.content.decode()
    assert stored(pool).max_containers == 2
    with enter_tenant(acme.id):
        assert AuditEntry.objects.get(action="pool.changed").details["max_containers"] == [4, 2]


def test_a_refused_change_changes_nothing_and_is_kept(client_of: Any, pool: Pool, dora: User) -> None:
    answer = client_of(dora).post(f"/t/acme/pools/{pool.pk}/change/", {**SHAPE, "min_containers": "9"})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "At least 9 and at most 3 containers cannot both be." in page and 'value="9"' in page
    assert (stored(pool).min_containers, stored(pool).max_containers) == (1, 4)


def test_a_pool_is_turned_off_and_on(client_of: Any, pool: Pool, dora: User) -> None:
    client = client_of(dora)
    for action, enabled in (("off", False), ("on", True)):
        client.post(f"/t/acme/pools/{pool.pk}/switch/", {"action": action})
        assert stored(pool).is_enabled is enabled
    answer = client.post(f"/t/acme/pools/{pool.pk}/switch/", {"action": "explode"}, follow=True)
    assert "That is nothing a pool can do." in answer.content.decode()


def test_a_failed_deployment_says_why_and_can_be_tried_again(client_of: Any, acme: Tenant, dora: User) -> None:
    with enter_tenant(acme.id):
        pool = Pool.objects.create()
        deployment = Deployment.of_pool(pool)
        deployment.start_deploying()
        deployment.fail("The image does not exist.", permanent=True)
    client = client_of(dora)
    page = client.get(f"/t/acme/pools/{pool.pk}/").content.decode()
    assert "The image does not exist." in page and "Try again" in page
    client.post(f"/t/acme/pools/{pool.pk}/switch/", {"action": "again"})
    with enter_tenant(acme.id):
        assert AuditEntry.objects.filter(action="pool.tried_again").exists()


def test_a_viewer_reads_and_is_shown_no_button(client_of: Any, pool: Pool, bob: User) -> None:
    page = client_of(bob).get(f"/t/acme/pools/{pool.pk}/").content.decode()
    assert "Always warm" in page and "acme-cascade-1" in page
    assert "<form" not in page.partition('id="content"')[2]


def test_a_containers_log_is_shown_as_its_supervisor_has_it(client_of: Any, acme: Tenant, dora: User) -> None:
    with enter_tenant(acme.id):
        pool = Pool.objects.create(min_containers=1, startup_timeout_seconds=20, snapshots=False)
    with (
        running_supervisor() as supervisor,
        override_settings(LOCAL_SUPERVISOR_URL=supervisor.url, LOCAL_SUPERVISOR_TOKEN=TOKEN),
    ):
        applying.apply_pool(acme.id, pool.pk)
        with enter_tenant(acme.id):
            container = Container.objects.filter(deployment__pool=pool).latest("started_at")
        address = f"/t/acme/pools/{pool.pk}/containers/{container.pk}/"
        (written,) = supervisor.folder.rglob(f"*{container.name}*.log")
        last = json.loads(written.read_text().splitlines()[-1])
        page = words(client_of(dora).get(address).content.decode())
        assert f"{last['at'][11:23]} {last['level']} {last['message']} logger= {last['logger']}" in page
        assert address in client_of(dora).get(f"/t/acme/pools/{pool.pk}/").content.decode()


def test_a_log_whose_supervisor_is_away_says_so(client_of: Any, acme: Tenant, dora: User) -> None:
    with enter_tenant(acme.id):
        pool, _, container = factories.create_ready_pool()
    with override_settings(LOCAL_SUPERVISOR_URL="http://127.0.0.1:9"):
        page = client_of(dora).get(f"/t/acme/pools/{pool.pk}/containers/{container.pk}/")
    assert page.status_code == 200
    assert re.search(r"The local supervisor .* cannot be reached", page.content.decode())


# --- warm hours ------------------------------------------------------------------------------------------------------
OFFICE = {
    "days": [0, 1, 2, 3, 4],
    "begins_at": "08:00",
    "ends_at": "18:00",
    "min_containers": 2,
    "buffer_containers": 1,
}
NIGHT = {"days": [4, 6], "begins_at": "22:00", "ends_at": "06:00", "min_containers": 1, "buffer_containers": 0}


def as_typed(*windows: dict[str, Any], known: int = 0) -> dict[str, Any]:
    """Return what a browser sends of windows and the empty one after them; `known`: so many were there before."""
    form: dict[str, Any] = {"form-TOTAL_FORMS": len(windows) + 1, "form-INITIAL_FORMS": known}
    empty = {**OFFICE, "days": [], "min_containers": 1, "buffer_containers": 0}
    for number, window in enumerate((*windows, empty)):
        form |= {f"form-{number}-{name}": value for name, value in window.items()}
    return form


def test_warm_hours_are_typed_kept_and_told(client_of: Any, acme: Tenant, pool: Pool, dora: User, bob: User) -> None:
    address = f"/t/acme/pools/{pool.pk}/hours/"
    answer = client_of(dora).post(address, as_typed(OFFICE, NIGHT), follow=True)
    assert "The warm hours are saved." in answer.content.decode()
    assert stored(pool).warm_hours == [OFFICE, NIGHT]
    with enter_tenant(acme.id):
        (told,) = AuditEntry.objects.get(action="pool.changed").details.values()
        assert told[1][0] == "Mon–Fri 08:00–18:00: 2 warm, 1 in reserve"
        assert Deployment.objects.count() == 1, "no new deployment"
    for user in (dora, bob):
        page = client_of(user).get(f"/t/acme/pools/{pool.pk}/").content.decode()
        assert "Fri, Sun 22:00–06:00: 1 warm" in page
        assert 'x="91.67%" width="8.33%"' in page and 'x="0.0%" width="25.0%"' in page
        assert re.search(r"Kept warm [012] .+; next change .+, to [012]", words(page))


def test_a_window_is_removed_and_one_without_days_is_none(client_of: Any, pool: Pool, dora: User) -> None:
    client, address = client_of(dora), f"/t/acme/pools/{pool.pk}/hours/"
    client.post(address, as_typed(OFFICE, NIGHT))
    client.post(address, {**as_typed(OFFICE, NIGHT, known=2), "remove": "form-0"})
    assert stored(pool).warm_hours == [NIGHT]
    client.post(address, as_typed({**NIGHT, "days": []}, known=1))
    assert stored(pool).warm_hours == []


@pytest.mark.parametrize(
    ("windows", "sentence"),
    [
        ((OFFICE, {**NIGHT, "begins_at": "17:00"}), "Mon–Fri 08:00–18:01 and Fri, Sun 17:00–06:00 overlap"),
        (({**OFFICE, "min_containers": 9},), "9 warm, 1 in reserve are more than the 4 containers"),
        (({**OFFICE, "begins_at": "soon"},), "Enter a valid time."),
        (({**OFFICE, "min_containers": ""},), "This field is required."),
        (({**OFFICE, "days": [9]},), "9 is not one of the available choices"),
    ],
)
def test_hours_that_cannot_be_are_told_and_what_was_typed_is_kept(
    windows: Any, sentence: str, client_of: Any, pool: Pool, dora: User
) -> None:
    first, *others = windows
    typed = as_typed({**first, "ends_at": "18:01"}, *others)
    answer = client_of(dora).post(f"/t/acme/pools/{pool.pk}/hours/", typed)
    page = answer.content.decode()
    assert answer.status_code == 422 and sentence in page
    assert 'value="18:01"' in page
    assert stored(pool).warm_hours == []


def test_a_form_of_windows_that_was_tampered_with_is_told(client_of: Any, pool: Pool, dora: User) -> None:
    client, address = client_of(dora), f"/t/acme/pools/{pool.pk}/hours/"
    assert client.post(address, {}).status_code == 422
    assert client.post(address, {"form-TOTAL_FORMS": "9999", "form-INITIAL_FORMS": "0"}).status_code == 422
    assert stored(pool).warm_hours == []


# --- regions ---------------------------------------------------------------------------------------------------------
def test_a_tenant_says_where_its_callers_are(client_of: Any, acme: Tenant, dora: User) -> None:
    client = client_of(dora)
    client.post("/t/acme/pools/region/", {"region": "eu-west"})
    assert client.post("/t/acme/pools/region/", {"region": "moon"}).status_code == 422
    with enter_tenant(acme.id):
        assert Tenant.objects.get().region == "eu-west"
        assert AuditEntry.objects.get(action="tenant.changed").details == {"region": ["local", "eu-west"]}
    page = client.get("/t/acme/pools/").content.decode()
    assert '<option value="eu-west" selected>' in page


# --- names that a tenant may give ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["/etc/passwd", "../secrets", "weights/../../x", "a b", "~/x", "$(x)"])
def test_only_the_operator_names_folders_of_the_machine(
    client_of: Any, house: Tenant, pool: Pool, dora: User, olivia: User, name: str
) -> None:
    for field in ("checkpoint", "image"):
        answer = client_of(dora).post(f"/t/acme/pools/{pool.pk}/change/", {**SHAPE, field: name})
        assert answer.status_code == 422 and "This is no name" in answer.content.decode()
    assert (stored(pool).checkpoint, stored(pool).image) == ("", "")


def test_what_a_command_has_set_can_be_saved_again(client_of: Any, acme: Tenant, pool: Pool, dora: User) -> None:
    with enter_tenant(acme.id):
        Pool.objects.update(checkpoint="/srv/weights/stt")
    typed = {**SHAPE, "checkpoint": "/srv/weights/stt", "image": "warmline-stt:1.2.0", "max_containers": "5"}
    assert client_of(dora).post(f"/t/acme/pools/{pool.pk}/change/", typed).status_code == 302
    kept = stored(pool)
    assert (kept.checkpoint, kept.image, kept.max_containers) == ("/srv/weights/stt", "warmline-stt:1.2.0", 5)


def test_a_new_pools_machine_is_what_its_worker_needs_unless_somebody_says_otherwise(
    client_of: Any, acme: Tenant, alice: User
) -> None:
    moshi = {**NEW, "worker": "moshi", "backend": "modal", "region": "us-east", "gpu": ""}
    assert client_of(alice).post("/t/acme/pools/new/", {**moshi, "memory_mib": "30000"}).status_code == 302
    with enter_tenant(acme.id):
        made = Pool.objects.get()
    assert (made.gpu, made.cpu_millicores, made.memory_mib) == ("L4, A10", 2000, 30_000)
