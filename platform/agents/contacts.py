"""Keeping track of who called."""

from __future__ import annotations

from agents.models import Contact
from agents.models.contacts import normalise_phone


def keep_contact(*, name: str = "", phone: str = "", email: str = "", notes: str = "") -> Contact:
    """Return the contact with this telephone number, with what is new about them written down."""
    phone, name = normalise_phone(phone), " ".join(name.split())
    if not phone:
        return Contact.objects.create(name=name, email=email.strip(), notes=notes.strip())
    # Locked: two calls from one number at the same time both keep what they learn.
    contact, _ = Contact.objects.select_for_update().get_or_create(phone=phone)
    contact.name = name or contact.name
    contact.email = email.strip() or contact.email
    contact.notes = "\n".join(part for part in (contact.notes, notes.strip()) if part)
    contact.save()
    return contact
