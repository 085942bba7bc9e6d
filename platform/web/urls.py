"""Addresses of pages. Everything under /t/<tenant>/ is a tenant's own, and its views declare the role they need."""

from django.urls import URLPattern, URLResolver, include, path, re_path

from web.views import (
    affiliates,
    agents,
    api,
    billing,
    break_even,
    calendar,
    calls,
    fleet,
    limits,
    overview,
    people,
    pools,
    recordings,
    services,
    styleguide,
    telephone,
)
from web.views import public as public_views

app_name = "web"

public: list[URLPattern | URLResolver] = [
    path("", public_views.home, name="home"),
    path("pricing/", public_views.pricing, name="pricing"),
    path("affiliate/", affiliates.affiliate, name="affiliate"),
    path("affiliate/join/", affiliates.affiliate_join, name="affiliate_join"),
    path("via/<slug:code>/", affiliates.via, name="via"),
    path("break-even/", break_even.break_even, name="break_even"),
    path("demo/ticket/", public_views.demo_ticket, name="demo_ticket"),
    path("dashboard/", people.dashboard, name="dashboard"),
    path("invitations/<str:token>/", people.invitation, name="invitation"),
    path("stripe/events/", billing.stripe_events, name="stripe_events"),
    path("styleguide/", styleguide.styleguide, name="styleguide"),
]

programs: list[URLPattern | URLResolver] = [
    path("calls/", api.calls, name="api_calls"),
    path("calls/<uuid:call_id>/", api.call, name="api_call"),
    path("agents/<slug:agent_slug>/tickets/", api.tickets, name="api_tickets"),
    path("agents/<slug:agent_slug>/telephone-calls/", api.telephone_calls, name="api_telephone_calls"),
    path("telephone-calls/<uuid:leg_id>/", api.telephone_call, name="api_telephone_call"),
]

an_agent: list[URLPattern | URLResolver] = [
    path("", agents.agent, name="agent"),
    path("draft/", agents.agent_edit, name="agent_edit"),
    path("access/", agents.agent_access, name="agent_access"),
    path("ticket/", agents.agent_ticket, name="agent_ticket"),
    path("archive/", agents.agent_archive, name="agent_archive"),
    path("versions/", agents.agent_versions, name="agent_versions"),
    path("versions/<int:number>/", agents.agent_version, name="agent_version"),
    path("versions/<int:number>/roll-back/", agents.agent_roll_back, name="agent_roll_back"),
]

tenant: list[URLPattern | URLResolver] = [
    path("", overview.overview, name="overview"),
    path("calls/", calls.calls, name="calls"),
    path("calls/live/", overview.live_calls, name="live_calls"),
    path("calls/<uuid:call_id>/", calls.call, name="call"),
    path("calls/<uuid:call_id>/recording/", recordings.recording, name="call_recording"),
    path("agents/", agents.agents, name="agents"),
    path("agents/new/", agents.agent_new, name="agent_new"),
    path("agents/<slug:agent_slug>/", include(an_agent)),
    path("pools/", pools.pools, name="pools"),
    path("pools/new/", pools.pool_new, name="pool_new"),
    path("pools/region/", pools.pools_region_change, name="pools_region_change"),
    path("pools/<uuid:pool_id>/", pools.pool, name="pool"),
    path("pools/<uuid:pool_id>/change/", pools.pool_change, name="pool_change"),
    path("pools/<uuid:pool_id>/hours/", pools.pool_hours_change, name="pool_hours_change"),
    path("pools/<uuid:pool_id>/switch/", pools.pool_switch, name="pool_switch"),
    path("pools/<uuid:pool_id>/containers/<uuid:container_id>/", pools.container_log, name="container_log"),
    path("calendar/", calendar.calendar, name="calendar"),
    path("calendar/appointments/new/", calendar.appointment_new, name="appointment_new"),
    path("calendar/appointments/<uuid:appointment_id>/", calendar.appointment, name="appointment"),
    path("calendar/appointments/<uuid:appointment_id>/move/", calendar.appointment_move, name="appointment_move"),
    path("calendar/appointments/<uuid:appointment_id>/cancel/", calendar.appointment_cancel, name="appointment_cancel"),
    path("calendar/hours/", calendar.hours, name="hours"),
    path("calendar/hours/change/", calendar.hours_change, name="hours_change"),
    path("calendar/closures/new/", calendar.closure_new, name="closure_new"),
    path("calendar/closures/<uuid:closure_id>/remove/", calendar.closure_remove, name="closure_remove"),
    path("calendar/services/new/", calendar.service_new, name="service_new"),
    path("calendar/services/<uuid:service_id>/", calendar.service, name="service"),
    path("calendar/messages/", calendar.inbox, name="inbox"),
    re_path(
        r"^calendar/messages/(?P<kind>message|hand_off)/(?P<left_id>[0-9a-f-]{36})/done/$",
        calendar.left_handled,
        name="left_handled",
    ),
    path("calendar/contacts/", calendar.contacts, name="contacts"),
    path("telephone/", telephone.telephone, name="telephone"),
    path("telephone/account/", telephone.account_save, name="account_save"),
    path("telephone/account/remove/", telephone.account_remove, name="account_remove"),
    path("telephone/numbers/new/", telephone.number_new, name="number_new"),
    path("telephone/numbers/<uuid:number_id>/", telephone.number, name="number"),
    path("telephone/numbers/<uuid:number_id>/remove/", telephone.number_remove, name="number_remove"),
    path("telephone/calling-out/", telephone.calling_out, name="calling_out"),
    path("telephone/calling-out/call/", telephone.call_place, name="call_place"),
    path("telephone/calling-out/agree/", telephone.outbound_agree, name="outbound_agree"),
    path("telephone/calling-out/withdraw/", telephone.outbound_withdraw, name="outbound_withdraw"),
    path("telephone/do-not-call/", telephone.do_not_call_add, name="do_not_call_add"),
    path("telephone/do-not-call/<uuid:entry_id>/remove/", telephone.do_not_call_remove, name="do_not_call_remove"),
    path("billing/", billing.billing, name="billing"),
    path("billing/next/", billing.next_invoice, name="billing_next"),
    path("billing/subscribe/", billing.billing_subscribe, name="billing_subscribe"),
    path("billing/change/<slug:plan_slug>/", billing.billing_change, name="billing_change"),
    path("billing/cancel/", billing.billing_cancel, name="billing_cancel"),
    path("billing/portal/", billing.billing_portal, name="billing_portal"),
    path("members/", people.members, name="members"),
    path("members/invite/", people.invite_member, name="invite_member"),
    path("members/<uuid:membership_id>/", people.change_member, name="change_member"),
    path("members/invitations/<uuid:invitation_id>/withdraw/", people.withdraw_invitation, name="withdraw_invitation"),
    path("api-keys/", people.api_keys, name="api_keys"),
    path("api-keys/<uuid:key_id>/revoke/", people.revoke_api_key, name="revoke_api_key"),
    path("services/", services.service_keys, name="service_keys"),
    path("services/<uuid:key_id>/remove/", services.remove_service_key, name="remove_service_key"),
    path("limits/", limits.limits, name="limits"),
    path("services/accounts/<slug:backend>/", services.own_account_change, name="own_account_change"),
    path("services/accounts/<uuid:account_id>/remove/", services.own_account_remove, name="own_account_remove"),
    path("audit/", people.audit_trail, name="audit"),
]
operator: list[URLPattern | URLResolver] = [
    path("fleet/", fleet.fleet, name="fleet"),
    path("fleet/affiliates/", affiliates.fleet_affiliates, name="fleet_affiliates"),
    path(
        "fleet/affiliates/<int:affiliate_id>/<str:month_date>/<slug:currency>/",
        affiliates.fleet_payout,
        name="fleet_payout",
    ),
    path("fleet/calls/", fleet.fleet_live_calls, name="fleet_live_calls"),
    path("fleet/tenants/<uuid:tenant_id>/standing/", fleet.tenant_standing, name="tenant_standing"),
]

urlpatterns = [
    *public,
    path("t/<slug:tenant_slug>/", include(tenant)),
    path("api/", include(programs)),
    *operator,
]
