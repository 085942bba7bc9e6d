"""What a worker counts, for Prometheus. Made after the fork, so that no number comes along from the parent."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.sessions = Gauge("warmline_worker_sessions", "Sessions at the moment.", registry=self._registry)
        self.max_sessions = Gauge("warmline_worker_max_sessions", "Places for sessions.", registry=self._registry)
        self.boot_seconds = Gauge(
            "warmline_worker_boot_seconds", "From the order to start until ready.", ["boot"], registry=self._registry
        )
        self.ended = Counter(
            "warmline_worker_sessions_ended", "Sessions that ended, by why.", ["why"], registry=self._registry
        )
        self.refused = Counter(
            "warmline_worker_sessions_refused", "Sessions not taken, by why.", ["why"], registry=self._registry
        )
        self.turn_part_seconds = Histogram(
            "warmline_worker_turn_part_seconds",
            "Parts of the time from the end of speech to the reply.",
            ["part"],
            buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.4, 2.0, 4.0),
            registry=self._registry,
        )

        self.frame_seconds = Histogram(
            "warmline_worker_frame_seconds",
            "What a step of the model took, for all sessions together.",
            buckets=(0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.15, 0.25, 0.5),
            registry=self._registry,
        )
        self.first_byte_seconds = Histogram(
            "warmline_worker_first_byte_seconds",
            "From a request until its answer begins.",
            buckets=(0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 5.0, 15.0),
            registry=self._registry,
        )
        self.late_frames = Counter(
            "warmline_worker_late_frames", "Frames that waited longer than a frame takes.", registry=self._registry
        )

    def to_text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)
