"""What beat drives, and that a worker starts with it."""

from __future__ import annotations

from config.celery import app


def test_beat_drives_what_each_apps_schedule_names_and_every_task_exists() -> None:
    app.loader.import_default_modules()
    schedule = app.conf.beat_schedule
    assert {"provisioning.reconcile", "provisioning.settle_containers", "voice.sweep_calls"} <= {
        entry["task"] for entry in schedule.values()
    }
    assert [entry["task"] for entry in schedule.values() if entry["task"] not in app.tasks] == []


def test_no_run_waits_for_its_turn_longer_than_it_is_of_use() -> None:
    """When workers were away, the queue is not to hold one run for each time that beat has asked."""
    app.loader.import_default_modules()
    assert [name for name, entry in app.conf.beat_schedule.items() if not entry.get("options", {}).get("expires")] == []
