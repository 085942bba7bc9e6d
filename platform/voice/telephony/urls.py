"""Addresses that carriers are told, below /telephone/."""

from django.urls import path

from voice.telephony.twilio import webhooks as twilio

app_name = "telephone"
urlpatterns = [
    path("twilio/voice/", twilio.voice, name="twilio_voice"),
    path("twilio/answered/<uuid:leg_id>/", twilio.answered, name="twilio_answered"),
    path("twilio/after/", twilio.after, name="twilio_after"),
    path("twilio/dialled/", twilio.dialled, name="twilio_dialled"),
    path("twilio/status/", twilio.status, name="twilio_status"),
]
