"""What a service tells Prometheus: requests, queues, batches, scores against the held-out normal rows, drift, reloads."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from insphere.serving.slot import Slot, WaitingFile

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_LABELS = ["model", "version"]


class Metrics:
    """The metrics of one service, in a registry of their own.

    Examples
    --------
    >>> metrics = Metrics()
    >>> metrics.answered("GET", "/v2", 200, 0.001)
    >>> b'insphere_requests_total{method="GET",route="/v2",status="200"} 1.0' in metrics.text()
    True
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("insphere_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry)
        self._seconds = Histogram(
            "insphere_request_seconds",
            "Seconds from head to answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.in_flight = Gauge("insphere_requests_in_flight", "Requests being answered.", registry=self._registry)
        self._batch_rows = Histogram(
            "insphere_batch_rows", "Rows that were scored together.", _LABELS, buckets=_ROWS, registry=self._registry
        )
        self._batch_seconds = Histogram(
            "insphere_batch_seconds", "Seconds that scoring a batch took.", _LABELS, buckets=_SECONDS, registry=self._registry
        )
        self._unreadable = Counter("insphere_unreadable_rows", "Uploads that could not be read.", _LABELS, registry=self._registry)
        self._reloads = Counter(
            "insphere_model_reloads", "Changed model files, loaded or refused.", [*_LABELS, "outcome"], registry=self._registry
        )

        self._kept = Counter(
            "insphere_feedback_rows", "Rows kept for people to look at, or lost to a file in trouble.", ["kind"], registry=self._registry
        )
        self._feedback_problems = Counter(
            "insphere_feedback_problems", "Times that the file of verdicts could not be read or written.", registry=self._registry
        )

    def watch(self, slots: Callable[[], Iterable[Slot]], waiting: Callable[[], Iterable[WaitingFile]]) -> None:
        """Tell of the models too, and of the files that are none yet, as they are when asked."""
        self._registry.register(_Models(slots, waiting))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def unreadable(self, model: str, version: str, n_rows: int) -> None:
        """Count uploads that could not be read."""
        self._unreadable.labels(model, version).inc(n_rows)

    def reloaded(self, model: str, version: str, outcome: str) -> None:
        """Count a changed model file: "loaded" or "refused"."""
        self._reloads.labels(model, version, outcome).inc()

    def kept(self, kind: str, n_rows: int) -> None:
        """Count rows for people to look at: "drawn", "other" or "lost"."""
        self._kept.labels(kind).inc(n_rows)

    def feedback_failed(self) -> None:
        """Count a failure of the file of verdicts."""
        self._feedback_problems.inc()

    def batch_observer(self, model: str, version: str) -> Callable[[int, float], None]:
        """Return what a `Batcher` tells of its batches."""
        rows, duration = self._batch_rows.labels(model, version), self._batch_seconds.labels(model, version)

        def observe(n_rows: int, seconds: float) -> None:
            rows.observe(n_rows)
            duration.observe(seconds)

        return observe

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)


class _Models(Collector):
    """Metrics read from the models when asked: nothing to keep in step when a model is swapped."""

    def __init__(self, slots: Callable[[], Iterable[Slot]], waiting: Callable[[], Iterable[WaitingFile]]) -> None:
        self._slots, self._waiting = slots, waiting
        self._asking = threading.Lock()

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        gauges = {
            name: GaugeMetricFamily(f"insphere_{name}", text, labels=_LABELS)
            for name, text in (
                ("model_ready", "1 if the model scores, 0 if its health forbids it, or its file is being tried or refused."),
                ("model_loaded_timestamp_seconds", "When the model that answers now was loaded."),
                ("model_threshold", "Anomaly score above which a row is flagged."),
                ("queue_rows", "Rows that wait to be scored."),
                ("drift", "1 once scores no longer look like those of the held-out normal rows; stays 1 until the model is reloaded."),
                ("drift_evidence", "Evidence of drift: an alarm is raised where it reaches 100."),
                ("recent_p_value", "Mean p-value of the latest rows: about 0.5 for normal rows, lower where scores have risen."),
            )
        }
        rows = CounterMetricFamily("insphere_rows", "Rows scored, by decision.", labels=[*_LABELS, "decision"])
        scores = HistogramMetricFamily(
            "insphere_anomaly_score", "Scores, in buckets cut at quantiles of the held-out normal scores.", labels=_LABELS
        )
        for slot in self._slots():
            labels = [slot.model.name, slot.model.version]
            for name, value in _values(slot).items():
                gauges[name].add_metric(labels, value)
            histogram = slot.model.histogram
            rows.add_metric([*labels, "normal"], histogram.n_normal)
            rows.add_metric([*labels, "anomaly"], histogram.n_anomalies)
            scores.add_metric(labels, buckets=histogram.cumulative(), sum_value=histogram.total)
        for file in self._waiting():
            gauges["model_ready"].add_metric([file.place.name, file.place.version], 0.0)
        yield from (*gauges.values(), rows, scores)


def _values(slot: Slot) -> dict[str, float]:
    state = slot.model.drift.state
    values: dict[str, Any] = {
        "model_ready": slot.ready,
        "model_loaded_timestamp_seconds": slot.model.loaded_at,
        "model_threshold": slot.model.detector.threshold_,
        "queue_rows": slot.batcher.n_queued,
        "drift": state.drifted,
        "drift_evidence": state.evidence,
    }
    if state.recent_p_value is not None:
        values["recent_p_value"] = state.recent_p_value
    return {name: float(value) for name, value in values.items()}
