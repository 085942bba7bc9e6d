"""Moshi: speech to speech, many conversations in one batch."""
