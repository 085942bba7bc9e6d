"""Agents and what they keep for their business: versions, the calendar, contacts, messages."""

from agents.models.agents import Agent, AgentVersion
from agents.models.contacts import Contact, HandOff, Message
from agents.models.scheduling import Appointment, Closure, OpeningHours, Service

__all__ = [
    "Agent",
    "AgentVersion",
    "Appointment",
    "Closure",
    "Contact",
    "HandOff",
    "Message",
    "OpeningHours",
    "Service",
]
