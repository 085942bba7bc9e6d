"""What tests ask of the stand-in over HTTP: what it was asked, what is to go wrong, and what runs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from aiohttp import web
from google.protobuf.json_format import MessageToDict
from modal_proto import api_pb2

from gpu_workers.weights import LIST_NAME, VOLUME_NAME, list_of
from tests.modal_server.containers import Fleet
from tests.modal_server.state import Injection, State, new_id


def make_control(state: State, fleet: Fleet) -> web.Application:
    async def asked(request: web.Request) -> web.Response:
        documents: list[dict[str, Any]] = [
            {"call": name, "request": MessageToDict(message, preserving_proto_field_name=True)}
            for name, message in state.asked
        ]
        return web.json_response(documents)

    async def inject(request: web.Request) -> web.Response:
        document = await request.json()
        state.injections[document["call"]] = Injection(
            document.get("status", ""),
            document.get("message", ""),
            document.get("times", 1),
            document.get("delay_seconds", 0.0),
            document.get("retry_after_seconds", 0.0),
        )
        return web.json_response({})

    async def change(request: web.Request) -> web.Response:
        """Set what is there (images, weights, bill, prices, tokens), stop an App; fail restores or a build."""
        document = await request.json()
        workspace = state.workspace(document.get("workspace", next(iter(state.workspace_names.values()))))
        workspace.rates = document.get("rates", workspace.rates)
        state.credentials.pop(document.get("revoke", ""), None)
        state.credentials |= document.get("admit", {})
        if document.get("stop") in workspace.apps:
            workspace.apps[document["stop"]].state = api_pb2.APP_STATE_STOPPED
        for name in document.get("images", []):
            workspace.images[name] = new_id("im")
        for checkpoint in document.get("weights", []):
            volume = workspace.volumes.get(VOLUME_NAME) or state.add_volume(workspace, VOLUME_NAME)
            (volume.folder / checkpoint).mkdir(parents=True)
            (volume.folder / checkpoint / LIST_NAME).write_bytes(list_of({}, sources=[]))
        if "bill" in document:
            workspace.bill = [{**line, "cost": str(Decimal(line["cost"]))} for line in document["bill"]]
        state.failing_build = document.get("failing_build", state.failing_build)
        state.failing_restores = document.get("failing_restores", state.failing_restores)
        return web.json_response({})

    async def running(request: web.Request) -> web.Response:
        return web.json_response(
            {
                "containers": [
                    {
                        "name": each.name,
                        "app": each.server.app.name,
                        "ready": each.is_ready,
                        "sessions": len(each.sessions),
                        "pid": each.process.pid if each.process else None,
                    }
                    for each in fleet.containers
                ],
                "ended": [{"name": each.name, "code": code} for each, code in fleet.ended],
                "apps": [
                    {
                        "id": app.id,
                        "name": app.name,
                        "state": app.state,
                        "tags": app.tags,
                        "deploys": app.deploys,
                        "workspace": workspace.name,
                    }
                    for workspace in state.workspaces.values()
                    for app in workspace.apps.values()
                ],
            }
        )

    application = web.Application()
    application.add_routes(
        [
            web.get("/asked", asked),
            web.post("/inject", inject),
            web.post("/change", change),
            web.get("/running", running),
        ]
    )
    return application
