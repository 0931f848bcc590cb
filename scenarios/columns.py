"""The description of one observation column."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column of an observation.

    Args:
        name: unique name, dotted for columns that belong to a configuration.
        unit: ``s``, ``USD``, ``count``, ``flag``, ``share``, ``code``, ``logit``, ``z`` (standardised), or
            ``log10`` of one of them.
        low: smallest value it can take.
        high: largest value it can take; larger ones are clipped to it.
    """

    name: str
    unit: str
    low: float
    high: float
