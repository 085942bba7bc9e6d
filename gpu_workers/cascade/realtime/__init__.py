"""OpenAI Realtime in place of the cascade's brain and voice: a connection, and the brain that talks through it."""

from gpu_workers.cascade.realtime.brain import RealtimeBrain
from gpu_workers.cascade.realtime.connection import RealtimeConnection

__all__ = ["RealtimeBrain", "RealtimeConnection"]
