"""The telephony process of one machine: it runs where carriers are told how to reach it."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import one_machine


@pytest.mark.parametrize("address", ["", "wss://telephony.acme.example"])
def test_the_telephony_process_runs_where_carriers_can_reach_it(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELEPHONY_URL", address)
    ports = one_machine.choose_ports(web=0, gateway=0, say=lambda sentence: None)
    programs = {program.name: program for program in one_machine.servers(ports)}
    assert ("telephony" in programs) is bool(address)
    if address:
        assert str(ports.telephony) in programs["telephony"].command
        given = one_machine.environment(tmp_path, ports, {}, {})
        assert given["TELEPHONY_URL"] == address
        assert given["TELEPHONY_GATEWAY_URL"] == f"ws://127.0.0.1:{ports.gateway}"
        assert "telephony" in one_machine.unhealthy(ports)
