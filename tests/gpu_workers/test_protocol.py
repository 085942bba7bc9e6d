"""The wire, byte by byte."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_workers import protocol

ROOT = Path(protocol.__file__).parent.parent

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def test_messages_have_the_bytes_of_moshis_protocol() -> None:
    assert protocol.handshake(7) == b"\x00\x00\x00\x00\x00\x07\x00\x00\x00"
    assert protocol.audio(b"OggS") == b"\x01OggS"
    assert protocol.text("né") == b"\x02n\xc3\xa9"
    assert protocol.control(protocol.Control.RESTART) == b"\x03\x03"
    assert protocol.error("No.") == b"\x05No."
    assert protocol.PING == b"\x06"


def test_an_unknown_kind_is_none_and_an_empty_message_an_error() -> None:
    assert protocol.read_kind(b"\x07x") is None
    assert protocol.read_kind(b"\xff") is None
    with pytest.raises(protocol.ProtocolError, match="empty"):
        protocol.read_kind(b"")


@given(
    call_id=st.text(max_size=40),
    agent=st.dictionaries(st.text(max_size=8), json_values, max_size=4),
    history=st.lists(st.tuples(st.sampled_from(["caller", "agent"]), st.text(max_size=30)), max_size=5),
    max_seconds=st.integers(1, 36_000),
)
def test_a_start_message_reads_back(call_id: str, agent: dict, history: list, max_seconds: int) -> None:
    start = protocol.Start(
        call_id=call_id,
        agent=agent,
        tools_endpoint=protocol.ToolsEndpoint("http://127.0.0.1/x", "secret"),
        limits=protocol.Limits(max_seconds=max_seconds),
        history=tuple(protocol.Utterance(*said) for said in history),
        tools_run=tuple(protocol.ToolRun(name, not name) for _, name in history),
    )
    assert protocol.Start.from_document(protocol.read_metadata(start.to_message())) == start


@given(st.binary(max_size=200))
def test_any_bytes_are_metadata_or_a_protocol_error(payload: bytes) -> None:
    try:
        document = protocol.read_metadata(b"\x04" + payload)
        protocol.Start.from_document(document)
    except protocol.ProtocolError:
        pass


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"call_id": "x", "limits": 3},
        {"call_id": "x", "history": ["hi"]},
        {"call_id": "x", "tools_run": [{"name": "book"}]},
        {"call_id": "x", "tools_endpoint": {"url": "x"}},
    ],
)
def test_a_start_of_the_wrong_shape_is_refused(document: dict) -> None:
    with pytest.raises(protocol.ProtocolError, match="start message"):
        protocol.Start.from_document(document)


def test_a_start_from_a_newer_gateway_is_read() -> None:
    assert protocol.Start.from_document({"call_id": "x", "invented_later": 1, "limits": {"later": 2}}).call_id == "x"


def test_the_tools_token_is_not_in_its_repr() -> None:
    assert "secret" not in repr(protocol.ToolsEndpoint("http://127.0.0.1/x", "secret"))


def test_the_documented_close_codes_are_the_ones_in_the_code() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    for code in protocol.CloseCode:
        assert f"| {int(code)} | {code.name} | {code.reason} |" in page
    assert page.count("\n| 4") - page.count("\n| 4 |") == sum(code >= 4000 for code in protocol.CloseCode)


def test_the_protocol_needs_the_standard_library_alone() -> None:
    tree = ast.parse(Path(protocol.__file__).read_text())
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported <= set(sys.stdlib_module_names)
