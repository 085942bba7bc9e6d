"""Tools that leave something with the people of the business: a contact, a message, a request to call back."""

from __future__ import annotations

from typing import Any

from agents.contacts import keep_contact
from agents.models import Contact, HandOff, Message
from agents.tasks import mail_owners
from agents.tools.contract import ToolContext
from tenants.tasks import delay_on_commit


def save_contact(arguments: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    contact = keep_contact(**arguments)
    return {"name": contact.name, "phone": contact.phone}


def take_message(arguments: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    contact = _who(arguments, context)
    message = Message.objects.create(contact=contact, text=arguments["message"], call_id=context.call_id)
    _tell(context, f"A message from {contact or 'a caller'}", message.text, contact)
    return {"message_id": str(message.pk)}


def hand_off(arguments: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    contact = _who(arguments, context)
    note = HandOff.objects.create(contact=contact, reason=arguments["reason"], call_id=context.call_id)
    if context.puts_through:
        _tell(context, f"{contact or 'A caller'} is being put through to you", note.reason, contact)
    else:
        _tell(context, f"Please call back {contact or 'a caller'}", note.reason, contact)
    return {"hand_off_id": str(note.pk), "puts_through": context.puts_through}


def _who(arguments: dict[str, Any], context: ToolContext) -> Contact | None:
    phone = arguments.get("phone") or context.caller_number or ""
    name = arguments.get("name", "")
    return keep_contact(name=name, phone=phone) if name or phone else None


def _tell(context: ToolContext, subject: str, text: str, contact: Contact | None) -> None:
    lines = [text, "", f"Agent: {context.agent.name}"]
    if contact and contact.phone:
        lines.append(f"Telephone: {contact.phone}")
    delay_on_commit(mail_owners, tenant_id=str(context.tenant_id), subject=subject, body="\n".join(lines) + "\n")
