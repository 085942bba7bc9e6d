"""Addresses that carriers are told, below /telephone/."""

from django.urls import path

from voice.telephony.carriers import webhooks

app_name = "telephone"
urlpatterns = [
    path("<slug:carrier>/voice/", webhooks.voice, name="voice"),
    path("<slug:carrier>/answered/<uuid:leg_id>/", webhooks.answered, name="answered"),
    path("<slug:carrier>/after/", webhooks.after, name="after"),
    path("<slug:carrier>/dialled/", webhooks.dialled, name="dialled"),
    path("<slug:carrier>/status/", webhooks.status, name="status"),
    path("<slug:carrier>/status/<uuid:leg_id>/", webhooks.placed_status, name="placed_status"),
]
