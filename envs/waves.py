"""Plans in waves on recorded runs: calls launched together, the first success cancels the rest.

A wave is a multiset of configurations. With latencies ``L_i`` it ends at ``T``, the least latency of a success, or when
the last call has failed; a call costs ``c_i`` if it was done by then, else its share of the time it ran,

    c_i (a + (1 - a) min(1, T / L_i)),    a = limits.cancel_share,

so that only failures lead on, the state is again the failures per configuration, and

    U(f) = max(w(f) stop, max_A  R win_A(f) - price_usd cost_A(f) - price_s time_A(f) + U(f + A))

with ``A`` over all waves of at most ``max_parallel`` calls. Singletons give the sequential plans of
:mod:`brownout.envs.sequential`. Expectations are exact: samples are played without replacement in random order, so
given ``n`` failures each set of ``m`` samples with ``i`` successes comes next with probability
``C(F - n, m - i) / (C(N - n, m) C(F, m - i))``, for ``N`` samples of which ``F`` are failures, and configurations are
independent given the query; every combination of sets is summed. A plan assumes that an answer's verdict is right and
known when it ends. It does not launch again before a wave is over, and sees nothing but failures.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement
from math import comb, prod

import numpy as np
from numpy.typing import NDArray

from ..errors import TableError
from .sequential import MAX_STATES

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Wave = tuple[int, ...]
"""Configurations called at once; one that is called twice is named twice."""
MAX_CELLS = 20_000_000


class WavePlanner:
    """The best plan in waves for any prices, by dynamic programming over failure counts.

    Args:
        success: ``(Q, K, R)`` success of each sample; 0.5 and above counts.
        cost_usd: ``(Q, K, R)`` cost of each sample.
        latency_s: ``(Q, K, R)`` latency of each sample.
        n_samples: ``(Q, K)`` samples recorded.
        queries: which queries; default all.
        calls: ``(K,)`` calls of each configuration at most; default all recorded.
        max_calls: calls in all at most; default no limit.
        max_parallel: calls at once at most.
        cancel_share: share of a call's cost that is due once it has started.

    Raises:
        TableError: if there are more states or combinations than can be held.
    """

    def __init__(
        self,
        success: F64,
        cost_usd: F64,
        latency_s: F64,
        n_samples: I64,
        *,
        queries: I64 | None = None,
        calls: Sequence[int] | None = None,
        max_calls: int | None = None,
        max_parallel: int = 1,
        cancel_share: float = 0.0,
    ) -> None:
        q = np.arange(len(success)) if queries is None else np.asarray(queries)
        there = np.arange(success.shape[2]) < n_samples[q][:, :, None]
        self._won = (success[q] >= 0.5) & there
        self._there, self._n, self._share = there, n_samples[q], cancel_share
        self._cost = np.where(there, np.nan_to_num(cost_usd[q]), 0.0)
        self._latency = np.where(there, np.nan_to_num(latency_s[q]), 0.0)
        k, r = success.shape[1:]
        self.calls = np.minimum(np.full(k, r) if calls is None else np.asarray(calls), r).astype(np.int64)
        most = int(self.calls.sum()) if max_calls is None else max_calls
        states = prod((self.calls + 1).tolist())
        waves = [
            wave
            for size in range(1, max_parallel + 1)
            for wave in combinations_with_replacement(range(k), size)
            if (np.bincount(wave, minlength=k) <= self.calls).all()
        ]
        if states > MAX_STATES or states * len(waves) > MAX_CELLS:
            raise TableError(
                f"plan: {states} states and {len(waves)} waves; allowed: {MAX_STATES} states and {MAX_CELLS} "
                "combinations. Choose fewer configurations, fewer calls of each, or fewer calls at once"
            )
        self.waves: list[Wave] = waves
        self._radix = np.cumprod([1, *(self.calls[:-1] + 1)])
        self.counts = (np.arange(states)[:, None] // self._radix) % (self.calls + 1)
        total = self.counts.sum(axis=1)
        self._levels = [np.flatnonzero(total == n) for n in range(min(most, int(total.max())), -1, -1)]
        alive = np.full((states, len(q)), 1.0 / max(len(q), 1))
        for j in range(k):
            alive *= self._survival(j)[self.counts[:, j]]
        self.mass = alive.sum(axis=1)
        shape = (len(waves), states)
        self._win, self._pay, self._time, self._answers = (np.zeros(shape) for _ in range(4))
        self._open = np.zeros(shape, np.bool_)
        for w, wave in enumerate(waves):
            times = np.bincount(wave, minlength=k)
            self._open[w] = ((self.counts + times) <= self.calls).all(axis=1) & (total + len(wave) <= most)
            rows = np.flatnonzero(self._open[w])
            if not rows.size:
                continue
            members = np.flatnonzero(times)
            outcome = self._expect(members, times[members])
            place = tuple(self.counts[rows][:, members].T)
            for into, values in zip((self._win, self._pay, self._time, self._answers), outcome, strict=True):
                into[w, rows] = np.einsum("sq,sq->s", alive[rows], values[place])

    def _survival(self, j: int) -> F64:
        """``(calls + 1, Q)`` chance that the first ``n`` calls of ``j`` all fail."""
        out = np.ones((int(self.calls[j]) + 1, len(self._n)))
        for q, (samples, wins) in enumerate(zip(self._n[:, j], self._won[:, j].sum(axis=1), strict=True)):
            for n in range(len(out)):
                played = min(n, int(samples))
                out[n, q] = comb(int(samples - wins), played) / comb(int(samples), played)
        return out

    def _draws(self, j: int, m: int) -> tuple[NDArray[np.bool_], F64]:
        """Sets of samples that ``m`` calls of ``j`` can play, ``(D, R)``, and ``(n, Q, D)`` their chances."""
        r = self._won.shape[2]
        sets = [set_ for size in range(m + 1) for set_ in combinations(range(r), size)]
        masks = np.zeros((len(sets), r), np.bool_)
        for i, set_ in enumerate(sets):
            masks[i, list(set_)] = True
        size = masks.sum(axis=1)
        exists = ~(masks[None] & ~self._there[:, j, None, :]).any(axis=2)
        good = (masks[None] & self._won[:, j, None, :]).sum(axis=2)
        n_fail = self._n[:, j] - self._won[:, j].sum(axis=1)
        chance = np.zeros((int(self.calls[j]) - m + 1, len(self._n), len(sets)))
        for n in range(len(chance)):
            for q in range(len(self._n)):
                f, left = int(n_fail[q]), int(self._n[q, j]) - n
                if n > f and left > 0:
                    continue  # so many failures cannot have happened
                played = min(m, max(left, 0))  # where samples run out, fewer calls are made
                for d in np.flatnonzero(exists[q] & (size == played)):
                    bad = played - int(good[q, d])
                    chance[n, q, d] = comb(max(f - n, 0), bad) / (comb(max(left, 0), played) * comb(f, bad))
        used = chance.any(axis=(0, 1))
        return masks[used], chance[:, :, used]

    def _expect(self, members: I64, times: I64) -> tuple[F64, F64, F64, F64]:
        """Success, cost, time and answers of a wave, ``(n_1, ..., n_s, Q)`` by failures of its members so far."""
        masks, chances = zip(*(self._draws(int(j), int(m)) for j, m in zip(members, times, strict=True)), strict=True)
        count, queries = len(members), len(self._n)
        cells = queries * prod(len(mask) for mask in masks)
        if cells > MAX_CELLS:
            raise TableError(f"plan: a wave of {int(times.sum())} calls has {cells} combinations; allowed: {MAX_CELLS}")

        def along(values: F64, axis: int) -> F64:
            shape = [queries] + [1] * count
            shape[axis + 1] = values.shape[1]
            return values.reshape(shape)

        first, last = np.full((queries,) + (1,) * count, np.inf), np.zeros((queries,) + (1,) * count)
        for axis, (j, mask) in enumerate(zip(members, masks, strict=True)):
            latency = self._latency[:, j, None, :]
            won = mask[None] & self._won[:, j, None, :]
            first = np.minimum(first, along(np.where(won, latency, np.inf).min(axis=2), axis))
            last = np.maximum(last, along(np.where(mask[None], latency, 0.0).max(axis=2), axis))
        ok = np.isfinite(first)
        end = np.where(ok, first, last)
        pay, answers = np.zeros(end.shape), np.zeros(end.shape)
        for axis, (j, mask) in enumerate(zip(members, masks, strict=True)):
            for sample in range(mask.shape[1]):
                latency = self._latency[:, j, sample].reshape((queries,) + (1,) * count)
                ran = np.where(latency <= end, 1.0, end / np.where(latency > 0.0, latency, 1.0))
                due = self._share + (1.0 - self._share) * ran
                chosen = along(np.broadcast_to(mask[None, :, sample], (queries, len(mask))).astype(np.float64), axis)
                price = self._cost[:, j, sample].reshape((queries,) + (1,) * count)
                pay += chosen * price * due
                answers += chosen * (latency <= end)
        letters, digits = "abcdefghij"[:count], "mnoprstuvw"[:count]
        terms = ",".join(f"{n}q{d}" for n, d in zip(digits, letters, strict=True))
        rule = f"q{letters},{terms}->{digits}q"
        expected = [np.einsum(rule, x, *chances, optimize=True) for x in (ok.astype(np.float64), pay, end, answers)]
        return expected[0], expected[1], expected[2], expected[3]

    def solve(
        self,
        prize: float,
        *,
        per_usd: float = 1.0,
        per_s: float = 0.0,
        per_answer: float = 0.0,
        stop: float = 0.0,
    ) -> tuple[float, tuple[Wave, ...]]:
        """Return the value of the best plan and the plan.

        Args:
            prize: value of a success.
            per_usd: price of a USD.
            per_s: price of a second.
            per_answer: price of the verdict on each call that ends.
            stop: value of giving up, a person's say.
        """
        gain = prize * self._win - per_usd * self._pay - per_s * self._time - per_answer * self._answers
        step = [int(self._radix @ np.bincount(wave, minlength=len(self.calls))) for wave in self.waves]
        value = stop * self.mass
        choice = np.full(len(value), -1)
        for rows in self._levels:
            for w, ahead in enumerate(step):
                which = rows[self._open[w, rows]]
                total = gain[w, which] + value[which + ahead]
                better = total > value[which] + 1e-12
                value[which] = np.where(better, total, value[which])
                choice[which] = np.where(better, w, choice[which])
        plan: list[Wave] = []
        state = 0
        while choice[state] >= 0:
            plan.append(self.waves[choice[state]])
            state += step[choice[state]]
        return float(value[0]), tuple(plan)
