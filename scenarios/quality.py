"""Answers with a quality in [0, 1]: from the margin of the item-response model to quality, and what to expect of it."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..envs.quantiles import logistic, normal
from .schema import Quality

F64 = NDArray[np.float64]

_END: Final = 16.0
_PER_UNIT: Final = 128


class QualityCurve:
    """``1 / (1 + exp(-margin / scale))``, tabulated so that a lane computes the same bits in any batch.

    Args:
        quality: the scenario's part of that name.
    """

    def __init__(self, quality: Quality) -> None:
        grid = np.linspace(-_END, _END, int(2 * _END) * _PER_UNIT + 1)
        self._values = 1.0 / (1.0 + np.exp(-grid))
        self._scale = quality.scale
        self._accept_at = quality.accept_at

    def of(self, margin: F64) -> F64:
        """Quality of answers of the given margins, logits."""
        x = np.minimum(np.maximum(margin / self._scale, -_END), _END)
        position = (x + _END) * _PER_UNIT
        index = np.minimum(position.astype(np.int64), len(self._values) - 2)
        low = self._values.take(index)
        return low + (position - index) * (self._values.take(index + 1) - low)

    @property
    def cut(self) -> float:
        """Margin from which an answer counts as a success, logits."""
        share = min(max(self._accept_at, float(self._values[0])), float(self._values[-1]))
        return self._scale * math.log(share / (1.0 - share))

    def moments(self, margin: F64, sd: F64, share: F64) -> tuple[F64, F64]:
        """Mean and variance of the quality of each configuration's fresh answers.

        Args:
            margin: ``(K, C)`` mean of skill minus difficulty per class, logits.
            sd: ``(K, C)`` standard deviation of difficulty and latents together, logits.
            share: ``(C,)`` share of each class; sums to 1.
        """
        spread, noise = normal().values[::8], logistic().values[::8]
        at = margin[..., None, None] + sd[..., None, None] * spread[:, None] + noise
        q = self.of(at)

        def mean(values: F64) -> F64:
            for _ in range(2):
                values = np.asarray(np.trapezoid(values, dx=1.0 / (values.shape[-1] - 1), axis=-1))
            return values @ share

        first = mean(q)
        return first, np.maximum(mean(q * q) - first * first, 0.0)
