"""Probes and metrics of a node over HTTP: asked of its workers by its controller, which serves them."""
