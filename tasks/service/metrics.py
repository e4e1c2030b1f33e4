"""What Prometheus reads of the service."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counters of one service; labels are routes, registered models and versions, never what somebody sent."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counted = ("route", "model", "status")
        self.requests = Counter("alma_requests", "Requests that were answered.", counted, registry=self.registry)
        self.seconds = Histogram(
            "alma_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ("route", "model"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "alma_generated_tokens", "Tokens that were generated.", ("model", "version"), registry=self.registry
        )
        self.unrecorded = Counter(
            "alma_unrecorded_requests", "Requests that the record file could not take.", registry=self.registry
        )
        self.unreachable = Counter("alma_registry_errors", "Looks at the registry that failed.", registry=self.registry)
        self.waiting = Gauge("alma_waiting_requests", "Requests that wait for their turn.", registry=self.registry)
        self.running = Gauge("alma_running_requests", "Requests that a model works on.", registry=self.registry)

    def watch(self, gauge: str, help: str, labels: tuple[str, ...], rows: Callable[[], Iterable[list[str]]]) -> None:
        """Show a 1 for each row of labels that there is at the time of asking."""

        class Rows(Collector):
            def collect(self) -> Iterable[GaugeMetricFamily]:
                family = GaugeMetricFamily(gauge, help, labels=labels)
                for row in rows():
                    family.add_metric(row, 1)
                yield family

        self.registry.register(Rows())

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self.registry)
