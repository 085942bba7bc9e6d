"""What the agent says: a policy that fills slots, or a language model with that policy to fall back on."""

from gpu_workers.cascade.brain.speech import Brain, HangUp, Say, ToolCalled, Voiced, VoicedBrain, Warned

__all__ = ["Brain", "HangUp", "Say", "ToolCalled", "Voiced", "VoicedBrain", "Warned"]
