"""What each tool is called, does and takes: the part that a language model and a worker see."""

from __future__ import annotations

from typing import Any

_PHONE = {
    "type": "string",
    # 7 to 15 digits, as the numbering plan of the world's telephones allows, however they are written.
    "pattern": r"^\s*\+?(?:[\s().-]*[0-9]){7,15}[\s().-]*$",
    "maxLength": 40,
    "description": "Telephone number, digits.",
}
_NAME = {"type": "string", "minLength": 1, "maxLength": 120, "description": "The caller's name."}
_TIME = {
    "type": "string",
    "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?$",
    "description": "Date and time of the business, like 2026-11-24T15:30.",
}
_SERVICE = {"type": "string", "minLength": 1, "maxLength": 80, "description": "Name of a service that can be booked."}


def _declare(description: str, required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "parameters": {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        },
    }


DECLARATIONS: dict[str, dict[str, Any]] = {
    "check_availability": _declare(
        "Find free times for a service, near a wished time or from now on.",
        ["service"],
        service=_SERVICE,
        starts_at=_TIME,
    ),
    "book_appointment": _declare(
        "Book a service for the caller. Only after the caller has confirmed service, time and name.",
        ["service", "starts_at", "name", "phone"],
        service=_SERVICE,
        starts_at=_TIME,
        name=_NAME,
        phone=_PHONE,
        email={"type": "string", "format": "email", "maxLength": 254},
        notes={"type": "string", "maxLength": 500},
    ),
    "find_appointments": _declare(
        "List the caller's coming appointments by their telephone number.", ["phone"], phone=_PHONE
    ),
    "reschedule_appointment": _declare(
        "Move the caller's next appointment to another time.", ["phone", "starts_at"], phone=_PHONE, starts_at=_TIME
    ),
    "cancel_appointment": _declare("Cancel the caller's next appointment.", ["phone"], phone=_PHONE),
    "save_contact": _declare(
        "Keep the caller's details for the business.",
        ["name", "phone"],
        name=_NAME,
        phone=_PHONE,
        email={"type": "string", "format": "email", "maxLength": 254},
        notes={"type": "string", "maxLength": 2000},
    ),
    "take_message": _declare(
        "Pass a message on to the people of the business, by e-mail.",
        ["message"],
        message={"type": "string", "minLength": 2, "maxLength": 2000},
        name=_NAME,
        phone=_PHONE,
    ),
    "hand_off": _declare(
        "Ask a person to call back, when the agent cannot help or the caller asks for a person.",
        ["reason"],
        reason={"type": "string", "minLength": 2, "maxLength": 500},
        name=_NAME,
        phone=_PHONE,
    ),
}


def declaration_of(name: str) -> dict[str, Any]:
    """Return a tool as workers get it: `name`, `description`, and `parameters` as a JSON schema.

    Raises:
        KeyError: there is no such tool.
    """
    return {"name": name, **DECLARATIONS[name]}
