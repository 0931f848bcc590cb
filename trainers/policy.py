"""The trained policy, in plain NumPy: a small MLP, its observation normaliser and masked choice.

One row of a batch gets the same bits whatever stands beside it. A matrix product of a whole batch does not
give that, because a BLAS picks another kernel for another number of rows. So every product here has the
same shape: ``BLOCK`` rows, padded with zeros. Eight rows are one register tile (or two) in every OpenBLAS
kernel for x86, so the position of a row inside its block does not matter either; 16 rows already break
that on Haswell and Zen kernels. Against one large product it costs about 1.4 times the time at 1,024 rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..envs.streams import stream_id, uniform
from ..errors import PolicyError

if TYPE_CHECKING:
    from .card import PolicyCard

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

BLOCK: Final = 8
MASKED: Final = np.float32(-1e8)  # finite, so that 0 * log(0) never becomes NaN
HIDDEN: Final = (64, 64)
CLIP: Final = 10.0


class Moments:
    """Running mean and variance of every observation column, in float64.

    Batches are merged with the parallel formula of Chan, Golub and LeVeque (1979), which loses no digits
    when the mean is large against the spread.
    """

    def __init__(self, columns: int) -> None:
        self.count = 0.0
        self.mean: F64 = np.zeros(columns)
        self.m2: F64 = np.zeros(columns)

    def merge(self, count: float, mean: F64, variance: F64) -> None:
        """Add ``count`` rows with the given column means and (population) variances, each ``(D,)``."""
        total = self.count + count
        if total <= 0:
            return
        shift = mean - self.mean
        self.mean = self.mean + shift * (count / total)
        self.m2 = self.m2 + variance * count + shift * shift * (self.count * count / total)
        self.count = total

    def update(self, rows: NDArray[Any]) -> None:
        """Add observations of shape ``(..., D)``."""
        flat = rows.reshape(-1, rows.shape[-1]).astype(np.float64)
        self.merge(len(flat), flat.mean(axis=0), flat.var(axis=0))

    @property
    def deviation(self) -> F64:
        """Standard deviation per column; 1 where a column has never moved, so that it stays centred."""
        return np.where(self.moved, np.sqrt(self.m2 / max(self.count, 1.0)), 1.0)

    @property
    def moved(self) -> NDArray[np.bool_]:
        """Which columns have ever moved beyond rounding."""
        return np.sqrt(self.m2 / max(self.count, 1.0)) > 1e-6 * np.maximum(1.0, np.abs(self.mean))

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Return the exact state as arrays."""
        return {"count": np.array(self.count), "mean": self.mean.copy(), "m2": self.m2.copy()}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from :meth:`get_state`."""
        self.count = float(state["count"])
        self.mean = np.array(state["mean"], dtype=np.float64)
        self.m2 = np.array(state["m2"], dtype=np.float64)


@dataclass(frozen=True)
class Normaliser:
    """``(observation - mean) / deviation``, clipped; the frozen form that a policy carries.

    The deviation is infinite where a column never moved in training: nothing was learned about it, so a policy
    trained at one price or without faults ignores what it then sees there.
    """

    mean: F32
    deviation: F32
    clip: float = CLIP

    @classmethod
    def of(cls, moments: Moments, clip: float = CLIP) -> Normaliser:
        """Freeze running moments."""
        deviation = np.where(moments.moved | (moments.count == 0), moments.deviation, np.inf)
        return cls(moments.mean.astype(np.float32), deviation.astype(np.float32), clip)

    def __call__(self, rows: NDArray[Any]) -> F32:
        """Normalise ``(..., D)`` observations into a fresh float32 array."""
        out = np.subtract(rows, self.mean, dtype=np.float32)
        out /= self.deviation
        np.minimum(out, np.float32(self.clip), out=out)
        return np.maximum(out, np.float32(-self.clip), out=out)


def shapes(columns: int, actions: int, hidden: Sequence[int] = HIDDEN) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every weight array: a policy net and a separate value net."""
    result: dict[str, tuple[int, ...]] = {}
    for head, width in (("policy", actions), ("value", 1)):
        sizes = (columns, *hidden, width)
        for i, (rows, cols) in enumerate(pairwise(sizes)):
            result[f"{head}.{i}.weight"] = (rows, cols)
            result[f"{head}.{i}.bias"] = (cols,)
    return result


def initial_weights(columns: int, actions: int, hidden: Sequence[int] = HIDDEN, seed: int = 0) -> dict[str, F32]:
    """Draw orthogonal weights: gain sqrt(2) inside, 0.01 for the logits, 1 for the value; biases 0.

    Source of the gains: Andrychowicz et al., "What matters in on-policy reinforcement learning?" (2021).
    """
    weights: dict[str, F32] = {}
    for name, shape in shapes(columns, actions, hidden).items():
        if len(shape) == 1:
            weights[name] = np.zeros(shape, dtype=np.float32)
            continue
        head, index, _ = name.split(".")
        gain = np.sqrt(2.0) if int(index) < len(hidden) else (0.01 if head == "policy" else 1.0)
        key = np.array([stream_id(f"trainer.initial.{seed}.{name}")], dtype=np.uint64)
        tall = (max(shape), min(shape))
        draws = uniform(key, stream_id("normal"), np.arange(2 * tall[0] * tall[1])).reshape(2, *tall)
        normal = np.sqrt(-2.0 * np.log1p(-draws[0])) * np.cos(2.0 * np.pi * draws[1])  # Box and Muller (1958)
        q, r = np.linalg.qr(normal)
        q *= np.sign(np.diagonal(r))
        weights[name] = np.ascontiguousarray(gain * (q if shape[0] >= shape[1] else q.T), dtype=np.float32)
    return weights


class Policy:
    """A policy that can be asked for actions; immutable, and safe to use from several threads.

    Args:
        weights: the arrays named by :func:`shapes`, float32, weights stored ``(inputs, outputs)``.
        normaliser: applied to raw observations inside every method; None for none.
        card: what the policy was trained on; needed by :meth:`check`.

    Raises:
        PolicyError: an array is missing, has a wrong shape or holds NaN or infinity.
    """

    def __init__(
        self,
        weights: Mapping[str, NDArray[Any]],
        normaliser: Normaliser | None = None,
        card: PolicyCard | None = None,
    ) -> None:
        self.card = card
        self.normaliser = normaliser
        depth = sum(1 for name in weights if name.startswith("policy.") and name.endswith(".weight"))
        first, last = weights.get("policy.0.weight"), weights.get(f"policy.{depth - 1}.bias")
        if depth < 1 or first is None or first.ndim != 2 or last is None or last.ndim != 1:
            raise PolicyError(f"weights must hold policy.0.weight and its followers, got {sorted(weights)}")
        self.columns, self.actions = int(first.shape[0]), int(last.shape[0])
        self.hidden = tuple(int(weights[f"policy.{i}.bias"].shape[0]) for i in range(depth - 1))
        expected = shapes(self.columns, self.actions, self.hidden)
        if set(expected) != set(weights):
            missing, extra = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
            raise PolicyError(f"weights: missing arrays {missing}, unknown arrays {extra}")
        self.weights: dict[str, F32] = {}
        for name, shape in expected.items():
            array = np.ascontiguousarray(weights[name], dtype=np.float32)
            if array.shape != shape:
                raise PolicyError(f"{name}: shape {array.shape}, expected {shape}")
            if not np.isfinite(array).all():
                raise PolicyError(f"{name}: holds NaN or infinity")
            self.weights[name] = array
        if normaliser is not None and normaliser.mean.shape != (self.columns,):
            raise PolicyError(f"normaliser: shape {normaliser.mean.shape}, expected {(self.columns,)}")
        w = self.weights
        self._layers = {
            head: [(w[f"{head}.{i}.weight"], w[f"{head}.{i}.bias"]) for i in range(depth)]
            for head in ("policy", "value")
        }

    def logits(self, observations: ArrayLike, mask: ArrayLike | None = None) -> F32:
        """Return ``(n, A)`` action logits of ``(n, D)`` raw observations; -1e8 where ``mask`` is false."""
        logits = self._forward("policy", self._rows(observations))
        return logits if mask is None else np.where(np.asarray(mask, dtype=bool), logits, MASKED)

    def values(self, observations: ArrayLike) -> F32:
        """Return the ``(n,)`` estimated utility still to come of ``(n, D)`` raw observations."""
        return self._forward("value", self._rows(observations))[:, 0]

    def act(
        self,
        observation: NDArray[Any],
        mask: NDArray[Any] | None = None,
        *,
        greedy: bool = True,
        uniform: float | None = None,
    ) -> int:
        """Choose the action of one observation.

        Args:
            observation: ``(D,)`` raw observation.
            mask: ``(A,)`` true or 1 where an action is allowed; None allows all.
            greedy: take the most likely action; otherwise sample with ``uniform``.
            uniform: a number in [0, 1) that decides the sample.

        Raises:
            PolicyError: wrong shape, NaN observed, nothing allowed, or a sample without ``uniform``.
        """
        if observation.shape != (self.columns,):
            raise PolicyError(f"observation: shape {observation.shape}, expected {(self.columns,)}")
        block = np.zeros((BLOCK, self.columns), dtype=np.float32)
        block[0] = observation
        row = self._forward("policy", block)[0]
        if mask is not None:
            row = np.where(mask, row, MASKED)
        if greedy:
            action = int(row.argmax())
        elif uniform is None:
            raise PolicyError("act(greedy=False) needs uniform, a number in [0, 1) from a named stream")
        else:
            action = int(sample(row[None], np.array([uniform]))[0][0])
        if not row[action] > MASKED:  # also catches NaN
            raise PolicyError(_refusal(observation, mask, self.columns))
        return action

    def act_batch(
        self,
        observations: ArrayLike,
        mask: ArrayLike | None = None,
        uniforms: NDArray[np.float64] | None = None,
    ) -> NDArray[np.int64]:
        """Choose ``(n,)`` actions: the most likely ones, or samples when ``(n,)`` uniforms are given."""
        logits = self.logits(observations, mask)
        actions = logits.argmax(axis=1) if uniforms is None else sample(logits, uniforms)[0]
        chosen = logits[np.arange(len(actions)), actions]
        if not (chosen > MASKED).all():
            row = int(np.argmin(chosen > MASKED))
            mask_row = None if mask is None else np.asarray(mask)[row]
            raise PolicyError(f"row {row}: {_refusal(np.asarray(observations)[row], mask_row, self.columns)}")
        return actions

    def check(self, env: Any) -> None:
        """Refuse an environment whose observation columns or actions differ from those trained on.

        Raises:
            PolicyError: the policy has no card.
            ArtefactError: a column or action is missing, added or at another place; the message names it.
        """
        if self.card is None:
            raise PolicyError("this policy carries no card (columns and actions), so it cannot be checked")
        self.card.check(env)

    def _rows(self, observations: ArrayLike) -> NDArray[Any]:
        rows = np.asarray(observations)
        if rows.ndim != 2 or rows.shape[1] != self.columns:
            raise PolicyError(f"observations: shape {rows.shape}, expected (n, {self.columns})")
        return rows

    def _forward(self, head: str, rows: NDArray[Any]) -> F32:
        n = len(rows)
        if n % BLOCK:
            padded = np.zeros((n + BLOCK - n % BLOCK, self.columns), dtype=np.float32)
            padded[:n] = rows
            rows = padded
        x = rows.astype(np.float32, copy=False) if self.normaliser is None else self.normaliser(rows)
        x = x.reshape(-1, BLOCK, self.columns)
        *inner, (weight, bias) = self._layers[head]
        for hidden_weight, hidden_bias in inner:
            x = np.matmul(x, hidden_weight)
            x += hidden_bias
            np.tanh(x, out=x)
        x = np.matmul(x, weight)
        x += bias
        return x.reshape(-1, x.shape[-1])[:n]


def sample(logits: F32, uniforms: NDArray[np.float64]) -> tuple[NDArray[np.int64], F32]:
    """Sample one action per row by the inverse of the cumulative distribution.

    Args:
        logits: ``(n, A)`` masked logits.
        uniforms: ``(n,)`` numbers in [0, 1).

    Returns:
        ``(n,)`` actions, none of them masked, and their ``(n,)`` log-probabilities.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    cumulative = np.cumsum(np.exp(shifted), axis=1)
    total = cumulative[:, -1]
    actions = (cumulative <= (uniforms * total)[:, None]).sum(axis=1)
    np.minimum(actions, logits.shape[1] - 1, out=actions)  # a row of NaN must not index past the end
    return actions, shifted[np.arange(len(actions)), actions] - np.log(total)


def _refusal(observation: NDArray[Any], mask: NDArray[Any] | None, columns: int) -> str:
    if mask is not None and not np.asarray(mask).any():
        return "the mask allows no action; at least one entry must be 1"
    bad = [i for i in range(columns) if not np.isfinite(observation[i])]
    return f"the observation is not finite in columns {bad[:5]}; every column must be a number"
