"""Spans of a call, as a collector receives them."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.callers import calling, end_of_call, events_of, ready, ticket_url
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import scripted_worker


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A collector's address, and the spans that it received."""
    spans: list[Any] = []

    class Collect(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collect) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", spans
        server.shutdown()
        thread.join()


async def test_a_calls_spans_reach_the_collector_and_the_worker_is_told_the_trace(
    own_gateway: Callable[..., GatewayProcess], acme: Tenant, tmp_path: Path, collector: tuple[str, list[Any]]
) -> None:
    address, spans = collector
    gateway = await asyncio.to_thread(own_gateway, OTEL_EXPORTER_OTLP_ENDPOINT=address)
    with scripted_worker(tmp_path) as (port, log, _):

        def prepare() -> str:
            with enter_tenant(acme.id):
                factories.create_deployment(port=port)
            return ticket_url(gateway, acme)

        async with calling(await sync_to_async(prepare)()) as caller:
            opened = await ready(caller)
            await caller.ask()
        await end_of_call(acme)
        trace = events_of(log)[0]["document"]["trace"]["traceparent"]
    await asyncio.to_thread(gateway.process.stop)

    by_name = {span.name: span for span in spans}
    assert set(by_name) == {"call", "admit", "reserve", "start session", "connect", "talk", "close"}
    assert len({span.trace_id for span in spans}) == 1
    assert trace.split("-")[1] == by_name["call"].trace_id.hex()
    attributes = {pair.key: pair.value.string_value for pair in by_name["call"].attributes}
    assert attributes["call.id"] == opened["call_id"]
    assert attributes["tenant.id"] == str(acme.id)
