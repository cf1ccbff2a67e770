"""What a process counts, and that README.md has a line for each metric there is."""

from pathlib import Path

from crossbar_cluster.core.metrics import CATALOG, JOIN_DURATION, JOINS, LIMITS_MET, LINKS, Metrics

README = Path(__file__).resolve().parents[2] / "README.md"


def test_what_has_happened_is_counted_by_its_labels():
    metrics = Metrics()
    metrics.begin(LIMITS_MET)
    metrics.count(LIMITS_MET, "unsent_bytes")
    metrics.count(LIMITS_MET, "unsent_bytes")
    assert metrics.counted(LIMITS_MET) == {"unsent_bytes": 2}


def test_what_has_not_happened_yet_is_zero_once_it_is_begun():
    metrics = Metrics()
    metrics.count(JOINS, "joined")
    metrics.begin(JOINS, JOIN_DURATION)
    collected = metrics.collect()
    assert [["joined"], 1] in collected[JOINS.name] and [["refused"], 0] in collected[JOINS.name]
    assert collected[JOIN_DURATION.name] == [[[], [0.0] * (len(JOIN_DURATION.buckets) + 2)]]


def test_a_measurement_falls_into_the_first_bucket_whose_bound_it_does_not_exceed():
    metrics = Metrics()
    for measured in (0.005, 0.006, 99.0):
        metrics.observe(JOIN_DURATION, measured)
    [[_, [*counts, total]]] = metrics.collect()[JOIN_DURATION.name]
    assert counts[:2] == [1, 1] and counts[-1] == 1 and sum(counts) == 3
    assert total == 0.005 + 0.006 + 99.0


def test_gauges_are_what_they_are_told_and_nothing_is_kept_of_them():
    metrics = Metrics()
    assert metrics.collect([(LINKS, {("realm1", "up"): 2})]) == {LINKS.name: [[["realm1", "up"], 2]]}
    assert metrics.collect() == {}


def test_names_follow_the_conventions():
    for name, metric in CATALOG.items():
        assert name.startswith("crossbar_cluster_") and name == name.lower()
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert name.endswith("_seconds") == (metric.kind == "histogram"), name
        assert metric.help.endswith(".") and metric.buckets == tuple(sorted(metric.buckets))
        assert all(len(values) == len(metric.labels) for values in metric.begins), name
        assert bool(metric.begins) == (metric.kind != "gauge"), f"{name}: a counter begins at zero"


def test_the_table_in_the_readme_is_the_catalogue():
    in_readme = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| `crossbar_c")]
    lines = [
        f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.all_labels)} | {', '.join(m.places)} "
        f"| {m.help} |"
        for m in CATALOG.values()
    ]
    assert in_readme == lines, "\n".join(lines)
