"""Settings of a master that are a number of hours, from its environment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import txaio


@dataclass(frozen=True)
class Hours:
    """A variable with a number of hours; not set or empty: the default."""

    variable: str
    default: float

    def seconds(self, environ: Mapping[str, str]) -> float:
        """What it says.

        A value that is no such number is logged as an error, and the default counts: a typing error is no reason for a
        master to stay away.
        """
        value = environ.get(self.variable, "").strip()
        hours = _hours(value) if value else self.default
        if hours is None:
            txaio.make_logger().error(
                "{variable} is {value}, which is no number of hours from 0 on (for instance 24 or 0.5): "
                "{hours:g} hours is used",
                variable=self.variable,
                value=ascii(value),
                hours=self.default,
            )
            hours = self.default
        return hours * 3600.0


def _hours(value: str) -> float | None:
    try:
        hours = float(value)
    except ValueError:
        return None
    return hours if math.isfinite(hours) and hours >= 0 else None
