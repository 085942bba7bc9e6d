"""The gateway's SQL. All but ENTER_BY runs inside an entered tenant or as the operator: row-level security decides.

`tenants.scope.ENTER_SQL` comes first in every transaction that ENTER_BY does not begin.
"""

from __future__ import annotations

from billing.caps import ALLOWED_SECONDS_SQL
from voice import buckets

_ENTERED = "NULLIF(current_setting('warmline.tenant_id', true), '')"

# --- admission -----------------------------------------------------------------------------------------------------
LOCK_OF_TENANT = "hashtextextended('calls of ' || {tenant_id}::text, 0)"
_LOCK = LOCK_OF_TENANT.format(tenant_id="found.tenant_id")
_FOUND_BY = {
    "ticket": "warmline_redeem_ticket(%(secret)s) found",
    "public_key": "warmline_tenant_of_public_key(%(secret)s) found (tenant_id)",
}
ENTER_BY = {
    kind: f"""
        SELECT found.*, set_config('warmline.tenant_id', found.tenant_id::text, true) AS entered,
            set_config('warmline.admits', 't', true) AS marked, pg_advisory_xact_lock({_LOCK}) AS locked, true AS admits
        FROM {found} WHERE found.tenant_id IS NOT NULL
    """
    for kind, found in _FOUND_BY.items()
}
"""Find the tenant by what the caller came with, enter it, and wait for the other admissions of the same tenant."""
TRY_ENTER_BY = {
    kind: f"""
        SELECT tried.*, set_config('warmline.tenant_id', tried.tenant_id::text, true) AS entered,
            set_config('warmline.admits', CASE WHEN tried.admits THEN 't' ELSE 'f' END, true) AS marked
        FROM (
            SELECT found.*, pg_try_advisory_xact_lock({_LOCK}) AS admits
            FROM {found} WHERE found.tenant_id IS NOT NULL OFFSET 0
        ) tried
    """
    for kind, found in _FOUND_BY.items()
}
"""Do the same, and not `admits` where there are other admissions: then ADMISSION_BY asks nothing."""

_SECONDS_LEFT = f"""(
    SELECT allowed.seconds - (
        SELECT coalesce(sum(usage.quantity), 0) FROM billing_usage usage
        WHERE usage.tenant_id = tenant.id AND usage.kind = 'call_seconds'
            AND usage.occurred_at >= subscription.period_started_at
    ) - (
        SELECT coalesce(sum(live.duration_ms / 1000.0 + extract(epoch FROM now() - live.last_checkpoint_at)), 0)
        FROM voice_call live WHERE live.tenant_id = tenant.id AND live.status = 'live'
    )
    FROM (SELECT {ALLOWED_SECONDS_SQL}) allowed (seconds) WHERE allowed.seconds IS NOT NULL
)::float8"""
"""Of conversation in the tenant's period, with what its live calls have used since they were last written; NULL where
there is no end."""

BUDGET = f"""
    SELECT {_SECONDS_LEFT} AS seconds_left,
        (SELECT count(*) FROM voice_call live WHERE live.tenant_id = tenant.id AND live.status <> 'ended') AS live_calls
    FROM tenants_tenant tenant
    JOIN billing_subscription subscription ON subscription.tenant_id = tenant.id
    JOIN billing_plan plan ON plan.slug = subscription.plan_id
    LEFT JOIN billing_caps caps ON caps.tenant_id = tenant.id
    WHERE tenant.id = {_ENTERED}::uuid
"""

_ADMISSION = f"""
    SELECT tenant.id AS tenant_id, tenant.name AS tenant_name, tenant.time_zone, tenant.region,
        tenant.status AS tenant_status,
        agent.id AS agent_id, agent.slug AS agent_slug, agent.name AS agent_name,
        agent.archived_at IS NOT NULL AS archived, agent.allowed_origins, agent.calls_per_minute,
        version.id AS version_id, version.engine, version.config,
        subscription.status AS subscription_status,
        subscription.calls_end_at <= now() AS calls_have_ended,
        plan.max_concurrent_calls,
        {_SECONDS_LEFT} AS seconds_left,
        (SELECT count(*) FROM voice_calllease lease WHERE lease.tenant_id = tenant.id AND lease.expires_at > now())
            AS lines_taken,
        (SELECT count(*) FROM voice_call call WHERE call.tenant_id = tenant.id AND call.agent_id = agent.id
            AND call.channel = 'api' AND call.started_at > now() - interval '1 minute') AS calls_last_minute,
        %(tenant_calls_per_minute)s > 0 AND %(tenant_calls_per_minute)s <= (
            SELECT count(*) FROM voice_call call
            WHERE call.tenant_id = tenant.id AND call.started_at > now() - interval '1 minute'
        ) AS tenant_calls_too_often,
        %(fleet_calls)s > 0 AND %(fleet_calls)s <= warmline_lines_taken() AS fleet_is_full
    FROM tenants_tenant tenant
    LEFT JOIN billing_subscription subscription ON subscription.tenant_id = tenant.id
    LEFT JOIN billing_plan plan ON plan.slug = subscription.plan_id
    LEFT JOIN billing_caps caps ON caps.tenant_id = tenant.id
    JOIN agents_agent agent ON agent.tenant_id = tenant.id
    LEFT JOIN agents_agentversion version ON version.id = agent.live_version_id
    WHERE current_setting('warmline.admits', true) = 't' AND tenant.id = {_ENTERED}::uuid AND agent.
"""
ADMISSION_BY = {
    "ticket": f"""{_ADMISSION.rstrip()}id = (
        SELECT ticket.agent_id FROM voice_ticket ticket WHERE ticket.token_hash = %(secret)s
    )""",
    "public_key": f"{_ADMISSION.rstrip()}public_key = %(secret)s",
}
"""What admission asks of the entered tenant and the called agent."""

OPEN_CALL = """
    WITH opened AS (INSERT INTO voice_call (
        id, tenant_id, agent_id, version_id, status, channel, end_reason, epoch, region, caller_region, started_at,
        admitted_at, last_checkpoint_at, duration_ms, boot, turns_count, audio_in_messages, audio_in_bytes,
        audio_out_messages, audio_out_bytes, discarded_messages, cost_nano_dollars, caller_address_hash,
        max_seconds, resume_token_hash
    ) VALUES (
        %(id)s, %(tenant_id)s, %(agent_id)s, %(version_id)s, 'opening', %(channel)s, '', 1, %(region)s, %(region)s,
        %(started_at)s, clock_timestamp(), clock_timestamp(), 0, '', 0, 0, 0, 0, 0, 0, 0, %(caller_address_hash)s,
        %(max_seconds)s, %(resume_token_hash)s
    ) RETURNING id, tenant_id)
    INSERT INTO voice_calllease (id, tenant_id, call_id, expires_at)
    SELECT gen_random_uuid(), tenant_id, id, clock_timestamp() + make_interval(secs => %(lease_seconds)s) FROM opened
"""
"""And take its line."""

TAKE_LINE = """
    INSERT INTO voice_calllease (id, tenant_id, call_id, expires_at)
    VALUES (gen_random_uuid(), %(tenant_id)s, %(call_id)s, clock_timestamp() + make_interval(secs => %(seconds)s))
    ON CONFLICT (call_id) DO UPDATE SET expires_at = excluded.expires_at
"""
"""Keep a line; a live call whose line had expired takes it again."""

# --- checkpoints -----------------------------------------------------------------------------------------------------
CHECKPOINT = """
    UPDATE voice_call SET
        status = %(status)s, last_checkpoint_at = clock_timestamp(), region = %(region)s, pool_id = %(pool_id)s,
        deployment_id = %(deployment_id)s, setup_ms = %(setup_ms)s, reserve_ms = %(reserve_ms)s,
        connect_ms = %(connect_ms)s, ready_ms = %(ready_ms)s, first_audio_ms = %(first_audio_ms)s,
        duration_ms = %(duration_ms)s, gateway_ms_p50 = %(gateway_ms_p50)s, gateway_ms_p99 = %(gateway_ms_p99)s,
        boot = %(boot)s, boot_ms = %(boot_ms)s, turns_count = %(turns_count)s,
        audio_in_messages = %(audio_in_messages)s, audio_in_bytes = %(audio_in_bytes)s,
        audio_out_messages = %(audio_out_messages)s, audio_out_bytes = %(audio_out_bytes)s,
        discarded_messages = %(discarded_messages)s, refused_places = %(refused_places)s,
        failovers = %(failovers)s, resumes = %(resumes)s,
        longest_gap_ms = %(longest_gap_ms)s,
        spent_token_hash = CASE WHEN %(spent_token_is_void)s THEN '' ELSE spent_token_hash END
    WHERE id = %(id)s AND epoch = %(epoch)s AND status <> 'ended'
    RETURNING id
"""
SAVE_TURN = """
    INSERT INTO voice_turn (
        id, tenant_id, call_id, index, at_ms, turn_ms, end_of_turn_ms, stt_ms, llm_ttft_ms, tts_ttfb_ms, other_ms
    ) VALUES (
        %(id)s, %(tenant_id)s, %(call_id)s, %(index)s, %(at_ms)s, %(turn_ms)s, %(end_of_turn_ms)s, %(stt_ms)s,
        %(llm_ttft_ms)s, %(tts_ttfb_ms)s, %(other_ms)s
    ) ON CONFLICT (tenant_id, call_id, index) DO NOTHING
"""
CHECKPOINT_CALLS = """
    UPDATE voice_call SET
        last_checkpoint_at = clock_timestamp(), duration_ms = row.duration_ms, first_audio_ms = row.first_audio_ms,
        gateway_ms_p50 = row.gateway_ms_p50, gateway_ms_p99 = row.gateway_ms_p99,
        audio_in_messages = row.audio_in_messages, audio_in_bytes = row.audio_in_bytes,
        audio_out_messages = row.audio_out_messages, audio_out_bytes = row.audio_out_bytes,
        discarded_messages = row.discarded_messages
    FROM jsonb_to_recordset(%(calls)s::jsonb) AS row (
        id uuid, epoch integer, duration_ms bigint, first_audio_ms integer, gateway_ms_p50 double precision,
        gateway_ms_p99 double precision, audio_in_messages bigint, audio_in_bytes bigint, audio_out_messages bigint,
        audio_out_bytes bigint, discarded_messages bigint
    )
    WHERE voice_call.id = row.id AND voice_call.epoch = row.epoch AND voice_call.status <> 'ended'
    RETURNING voice_call.id
"""
CHECKPOINT_SESSIONS = """
    UPDATE voice_session SET active_ms = row.active_ms
    FROM jsonb_to_recordset(%(sessions)s::jsonb) AS row (id uuid, call_id uuid, epoch integer, active_ms bigint)
    JOIN voice_call ON voice_call.id = row.call_id AND voice_call.epoch = row.epoch AND voice_call.status <> 'ended'
    WHERE voice_session.id = row.id
"""
KEEP_LINES = """
    INSERT INTO voice_calllease (id, tenant_id, call_id, expires_at)
    SELECT gen_random_uuid(), tenant_id, id, clock_timestamp() + make_interval(secs => %(seconds)s)
    FROM voice_call WHERE id = ANY(%(call_ids)s) AND status <> 'ended'
    ON CONFLICT (call_id) DO UPDATE SET expires_at = excluded.expires_at
"""
SAVE_SESSION = """
    INSERT INTO voice_session (
        id, tenant_id, call_id, role, pool_id, deployment_id, region, container, backend_ref, granted_at, ended_at,
        reserve_ms, connect_ms, active_ms, rate_nano_dollars_per_second, boot, boot_ms, why_ended, gap_ms,
        reach
    ) VALUES (
        %(id)s, %(tenant_id)s, %(call_id)s, %(role)s, %(pool_id)s, %(deployment_id)s, %(region)s, %(container)s,
        %(backend_ref)s, %(granted_at)s, %(ended_at)s, %(reserve_ms)s, %(connect_ms)s, %(active_ms)s,
        %(rate_nano_dollars_per_second)s, %(boot)s, %(boot_ms)s, %(why_ended)s, %(gap_ms)s,
        %(reach)s
    ) ON CONFLICT (id) DO UPDATE SET
        container = excluded.container, ended_at = excluded.ended_at, connect_ms = excluded.connect_ms,
        active_ms = excluded.active_ms, boot = excluded.boot, boot_ms = excluded.boot_ms,
        why_ended = excluded.why_ended, gap_ms = excluded.gap_ms, reach = excluded.reach
"""
STATUS_OF = "SELECT id, status FROM voice_call WHERE id = ANY(%(ids)s)"
"""Asked of calls whose epoch has moved on: taken over by another gateway, or closed."""

# --- coming back -----------------------------------------------------------------------------------------------------
ENTER_BY_RESUME_TOKEN = """
    SELECT found.*, set_config('warmline.tenant_id', found.tenant_id::text, true)
    FROM warmline_resume_call(%(token_hash)s, %(new_hash)s) found
"""
"""Find the call by the token, put a new token in its place, and enter the tenant."""

TAKE_OVER = """
    UPDATE voice_call SET epoch = epoch + 1, last_checkpoint_at = clock_timestamp()
    WHERE id = %(id)s AND status <> 'ended'
    RETURNING epoch, pg_notify('warmline_calls', id || ' ' || epoch)
"""
"""From here on the gateway that held the call may not write, and is told so: see voice.takeovers."""

CALL_SO_FAR = """
    SELECT call.*, tenant.name AS tenant_name, tenant.time_zone, agent.slug AS agent_slug, agent.name AS agent_name,
        version.engine, version.config,
        (SELECT max(index) FROM voice_turn turn WHERE turn.call_id = call.id) AS last_turn
    FROM voice_call call
    JOIN tenants_tenant tenant ON tenant.id = call.tenant_id
    JOIN agents_agent agent ON agent.id = call.agent_id
    JOIN agents_agentversion version ON version.id = call.version_id
    WHERE call.id = %(id)s
"""
SESSIONS_SO_FAR = "SELECT * FROM voice_session WHERE call_id = %(id)s ORDER BY granted_at"

# --- close -----------------------------------------------------------------------------------------------------------
CLOSE_CALL = """
    UPDATE voice_call SET
        status = 'ended', end_reason = %(end_reason)s, close_code = %(close_code)s,
        ended_at = coalesce(%(ended_at)s, last_checkpoint_at), epoch = epoch + 1
    WHERE id = %(id)s AND epoch = %(epoch)s AND status <> 'ended'
        AND (%(quiet_since)s::timestamptz IS NULL OR last_checkpoint_at < %(quiet_since)s)
    RETURNING ended_at, duration_ms, channel
"""
"""Only who holds the call's epoch closes it, and the sweeper only what has been quiet since it looked."""

END_SESSIONS = """
    UPDATE voice_session SET ended_at = granted_at + active_ms * interval '1 millisecond',
        why_ended = coalesce(NULLIF(why_ended, ''), %(end_reason)s), reach = NULL
    WHERE call_id = %(id)s
"""
"""A place that failed before the call got another has ended before the call."""
FREE_LINE = "DELETE FROM voice_calllease WHERE call_id = %(id)s"

SESSIONS_TO_CHARGE = """
    SELECT session.id, session.pool_id, session.deployment_id, session.container, session.ended_at, session.active_ms,
        session.rate_nano_dollars_per_second, others.*
    FROM voice_session session
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(begin_ms), '{}') AS others_begin, coalesce(array_agg(end_ms), '{}') AS others_end
        FROM warmline_other_sessions(session.id)
    ) others
    WHERE session.call_id = %(id)s
    ORDER BY session.granted_at
"""
"""The call's sessions, each with when others were on the same container, in ms since it was granted."""

SET_COST = "UPDATE voice_call SET cost_nano_dollars = %(cost_nano_dollars)s WHERE id = %(id)s"

RECORD_USAGE = """
    INSERT INTO billing_usage (id, tenant_id, kind, quantity, call_id, occurred_at, recorded_at, idempotency_key)
    VALUES (
        %(id)s, %(tenant_id)s, 'call_seconds', %(seconds)s, %(call_id)s, %(occurred_at)s, clock_timestamp(), %(key)s
    ) ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
"""

_HISTOGRAM = f"""(
    SELECT array_agg(coalesce(counted.count, 0) ORDER BY bucket)
    FROM generate_series(0, {buckets.COUNT - 1}) bucket
    LEFT JOIN (SELECT one AS bucket, count(*)::int FROM unnest({{of}}) one WHERE one IS NOT NULL GROUP BY one) counted
        USING (bucket)
)"""
_ADD_HISTOGRAMS = """(
    SELECT array_agg(one + other ORDER BY place)
    FROM unnest(voice_callday.{name}, excluded.{name}) WITH ORDINALITY pair (one, other, place)
)"""
_ADD_TO_DAYS = f"""
    WITH ended AS (
        SELECT call.*, (call.started_at AT TIME ZONE tenant.time_zone)::date AS day_date
        FROM voice_call call JOIN tenants_tenant tenant ON tenant.id = call.tenant_id
        WHERE {{calls}}
    ), turn AS (
        SELECT ended.tenant_id, ended.day_date, ended.agent_id,
            array_agg({buckets.BUCKET_SQL.format(ms="turn.turn_ms")}) AS buckets
        FROM ended JOIN voice_turn turn ON turn.call_id = ended.id AND turn.turn_ms IS NOT NULL
        GROUP BY 1, 2, 3
    ), day AS (
        SELECT tenant_id, day_date, agent_id, count(*) AS calls,
            count(*) FILTER (WHERE end_reason <> ALL(%(good_ends)s)) AS failed_calls,
            sum(duration_ms) AS duration_ms, sum(turns_count) AS turns, sum(cost_nano_dollars) AS cost_nano_dollars,
            array_agg({buckets.BUCKET_SQL.format(ms="first_audio_ms")}) FILTER (WHERE first_audio_ms IS NOT NULL)
                AS first_audio
        FROM ended GROUP BY 1, 2, 3
    )
    INSERT INTO voice_callday (
        id, tenant_id, day_date, agent_id, calls, failed_calls, duration_ms, turns, cost_nano_dollars,
        first_audio_histogram, turn_histogram
    )
    SELECT gen_random_uuid(), day.tenant_id, day.day_date, day.agent_id, day.calls, day.failed_calls, day.duration_ms,
        day.turns, day.cost_nano_dollars, {_HISTOGRAM.format(of="day.first_audio")},
        {_HISTOGRAM.format(of="turn.buckets")}
    FROM day LEFT JOIN turn USING (tenant_id, day_date, agent_id)
    ON CONFLICT (tenant_id, day_date, agent_id) DO UPDATE SET
        calls = voice_callday.calls + excluded.calls,
        failed_calls = voice_callday.failed_calls + excluded.failed_calls,
        duration_ms = voice_callday.duration_ms + excluded.duration_ms,
        turns = voice_callday.turns + excluded.turns,
        cost_nano_dollars = voice_callday.cost_nano_dollars + excluded.cost_nano_dollars,
        first_audio_histogram = {_ADD_HISTOGRAMS.format(name="first_audio_histogram")},
        turn_histogram = {_ADD_HISTOGRAMS.format(name="turn_histogram")}
"""
ADD_TO_DAY = _ADD_TO_DAYS.format(calls="call.id = %(id)s")
"""Add a call to its day. Each is to be added once: in the transaction that ended it."""
_LOCK_OF_DAYS = "hashtextextended('days of ' || %(tenant_id)s::text, 0)"
KEEP_DAYS = f"SELECT pg_advisory_xact_lock_shared({_LOCK_OF_DAYS})"
"""Before a call is added to its day, in a statement of its own: what follows sees days made anew meanwhile."""
FREEZE_DAYS = f"SELECT pg_advisory_xact_lock({_LOCK_OF_DAYS})"
"""Let no call be added to the tenant's days until all of them were made anew."""
ADD_ALL_TO_DAYS = _ADD_TO_DAYS.format(calls=f"call.tenant_id = {_ENTERED}::uuid AND call.status = 'ended'")
FORGET_DAYS = f"DELETE FROM voice_callday WHERE tenant_id = {_ENTERED}::uuid"

# --- sweeper, as the operator ----------------------------------------------------------------------------------------
ORPHANED_CALLS = """
    SELECT id, tenant_id, epoch FROM voice_call WHERE status <> 'ended' AND last_checkpoint_at < %(quiet_since)s
    ORDER BY last_checkpoint_at LIMIT 1000
"""
FREE_EXPIRED_LINES = "DELETE FROM voice_calllease WHERE expires_at < now()"
FORGET_TICKETS = "DELETE FROM voice_ticket WHERE expires_at < now() - make_interval(days => %(days)s)"
