"""What workers and the controller have counted, as Prometheus reads it: `prometheus_client`'s families and formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from crossbar_cluster.core.metrics import CATALOG, Collected, Metric

#: In the place of a worker's name, for what is measured in every process.
CONTROLLER = "controller"


class _Scrape(Collector):
    """The numbers of one scrape."""

    def __init__(self, sources: Iterable[tuple[str | None, Mapping[str, Any]]]) -> None:
        self._families: dict[str, Family] = {}
        for worker, collected in sources:
            for name, series in collected.items():
                if name in CATALOG:  # else the worker runs another version than this process
                    self._add(CATALOG[name], series, worker)

    def collect(self) -> Iterator[Family]:
        yield from self._families.values()

    def _add(self, metric: Metric, series: list[list[Any]], worker: str | None) -> None:
        family = self._families.get(metric.name)
        if family is None:
            family = self._families[metric.name] = _family(metric)
        for values, number in series:
            labels = [*values, worker or CONTROLLER] if metric.of_worker else values
            if isinstance(family, HistogramMetricFamily):
                *counts, total = number
                bounds = [*map(str, metric.buckets), "+Inf"]
                family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
            elif isinstance(family, CounterMetricFamily | GaugeMetricFamily):
                family.add_metric(labels, number)


def _family(metric: Metric) -> Family:
    if metric.kind == "counter":
        return CounterMetricFamily(metric.name, metric.help, labels=metric.all_labels)
    if metric.kind == "gauge":
        return GaugeMetricFamily(metric.name, metric.help, labels=metric.all_labels)
    return HistogramMetricFamily(metric.name, metric.help, labels=metric.all_labels)


def exposition(accept: str, node: Collected, workers: Mapping[str, Mapping[str, Any]]) -> tuple[bytes, str]:
    """Everything in the format that is asked for.

    :param accept: HTTP header of the scrape.
    :param node: what the controller itself has counted.
    :param workers: what each worker has.
    :returns: body and content type.
    """
    registry = CollectorRegistry()
    registry.register(_Scrape([(None, node), *workers.items()]))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
