"""What rendered Kubernetes manifests say: who is selected, and who may connect to which port.

Plain functions over documents, without a Kubernetes cluster. Only what our manifests make use of is understood; all
else is an error, so that nothing is taken for allowed or forbidden by mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import yaml

COMPONENT = "app.kubernetes.io/component"
NAMESPACE = "kubernetes.io/metadata.name"  #: the label that every namespace has
WORKLOADS = ("StatefulSet", "Deployment", "Job")

Document = dict[str, Any]
Labels = Mapping[str, str]


class NotUnderstood(ValueError):
    """The manifests make use of something that this module knows nothing of."""


@dataclass(frozen=True)
class Peer:
    """A pod that connects."""

    labels: Labels
    namespace: str


@dataclass
class Manifests:
    documents: list[Document] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> Manifests:
        return cls(list(yaml.safe_load_all(file.read_text(encoding="utf-8"))))

    def of(self, *kinds: str) -> list[Document]:
        return [document for document in self.documents if document["kind"] in kinds]

    def one(self, kind: str, name: str) -> Document:
        [found] = (document for document in self.of(kind) if document["metadata"]["name"] == name)
        return found

    def workloads(self, component: str | None = None) -> list[Document]:
        """What makes pods, of one component or all."""
        found = self.of(*WORKLOADS)
        return [w for w in found if component is None or pod_labels(w)[COMPONENT] == component]

    def selected(self, selector: Mapping[str, Any]) -> set[str]:
        """The names of the workloads whose pods a selector selects."""
        return {w["metadata"]["name"] for w in self.workloads() if selects(selector, pod_labels(w))}

    def allowed_ports(self, component: str) -> list[range]:
        """The ports of a component's pods at which somebody, whoever it is, may connect: a range for each rule.

        :raises NotUnderstood: the component's workloads are not alike in this.
        """
        found = [[ports for _, ports in self._rules(pod_labels(workload))] for workload in self.workloads(component)]
        if not found or any(ports != found[0] for ports in found):
            raise NotUnderstood(f"the pods of {component} are none, or differ: {found}")
        return found[0]

    def allowed(self, peer: Peer, component: str) -> set[range]:
        """The ports of a component's pods at which ``peer`` may connect."""
        return {
            ports
            for workload in self.workloads(component)
            for sources, ports in self._rules(pod_labels(workload))
            if sources is None or any(_is_meant(source, peer, self._namespace) for source in sources)
        }

    @property
    def _namespace(self) -> str:
        [namespace] = self.of("Namespace")
        return str(namespace["metadata"]["name"])

    def _rules(self, labels: Labels) -> Iterator[tuple[list[Document] | None, range]]:
        """Who (None: anybody) may connect to pods with these labels, and where. :raises NotUnderstood:"""
        policies = [p["spec"] for p in self.of("NetworkPolicy") if selects(p["spec"]["podSelector"], labels)]
        if not policies:
            raise NotUnderstood(f"no policy selects pods with {labels}: everything is allowed")
        for policy in policies:
            if policy["policyTypes"] != ["Ingress"]:
                raise NotUnderstood(f"a policy for {policy['policyTypes']}")
            for rule in policy.get("ingress", []):
                if "from" in rule and not rule["from"]:
                    raise NotUnderstood("an empty list of sources, which means anybody")
                for port in rule["ports"]:
                    yield rule.get("from"), _range(port)


def pod_labels(workload: Document) -> Labels:
    labels: Labels = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def pod_spec(workload: Document) -> Document:
    spec: Document = workload["spec"]["template"]["spec"]
    return spec


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Whether a label selector, or the plain mapping that a Service has, selects what has these labels."""
    if not selector.keys() & {"matchLabels", "matchExpressions"}:
        return selector.items() <= labels.items()
    if selector.keys() - {"matchLabels", "matchExpressions"}:
        raise NotUnderstood(f"the selector {selector}")
    for expression in selector.get("matchExpressions", []):
        if expression["operator"] != "In":
            raise NotUnderstood(f"the operator {expression['operator']}")
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def uncovered(listening: set[int], allowed: list[range]) -> list[str]:
    """What does not agree between the ports that are listened on and the rules that let somebody in there."""
    problems = []
    for port in sorted(listening):
        rules = [ports for ports in allowed if port in ports]
        if len(rules) != 1:
            problems.append(f"port {port} is listened on, and {len(rules)} rules let somebody in there")
    for ports in allowed:
        if not listening & set(ports):
            problems.append(f"somebody is let in at {ports.start} to {ports.stop - 1}, where nobody listens")
    return problems


def listened_on(pid: int) -> dict[str, set[int]]:
    """The TCP ports on which a process and its descendants listen, by IP address."""
    process = psutil.Process(pid)
    found: dict[str, set[int]] = {}
    for each in (process, *process.children(recursive=True)):
        for connection in each.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                ip = connection.laddr.ip.removeprefix("::ffff:")
                found.setdefault(ip, set()).add(connection.laddr.port)
    return found


def _range(port: Document) -> range:
    if port["protocol"] != "TCP" or not isinstance(port["port"], int):
        raise NotUnderstood(f"the port {port}")
    return range(port["port"], port.get("endPort", port["port"]) + 1)


def _is_meant(source: Document, peer: Peer, namespace: str) -> bool:
    if not source or source.keys() - {"podSelector", "namespaceSelector"}:
        raise NotUnderstood(f"the source {source}")
    if "namespaceSelector" in source:
        in_namespace = selects(source["namespaceSelector"], {NAMESPACE: peer.namespace})
    else:
        in_namespace = peer.namespace == namespace
    return in_namespace and selects(source.get("podSelector", {}), peer.labels)
