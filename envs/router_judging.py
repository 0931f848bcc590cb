"""Judging and repairing: what a judge says of a candidate, what several say together, what a repair makes of it.

One judge that says yes or no ranks candidates by its verdict. With several judges, or answers that have a quality
(``quality`` of the scenario), a candidate's rank is what an operator would believe of it who knows the scenario's
rates and takes all errors for independent: the log-odds that it is right, or the expected quality.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faults import Calls, Status, Verb
from ..scenarios.tasks import Outcomes
from .lanes import F64, I64, Bools
from .quantiles import normal
from .router_state import _INF, _MENDED, BEST_SCORE, LIMIT, PER_CONFIG, RouterState
from .streams import stream_id, stream_ids, uniform

_SURE = 1e-4  # no verdict counts for more than these odds
_LEAST_VARIANCE = 1e-6


class RouterJudging(RouterState):
    """The part of the router's physics that concerns judges and repairs."""

    def _set_up(self) -> None:
        super()._set_up()
        self._panel = tuple(self.spec.panel.values())
        self._wrong_alike = [self._shared_streams(j) for j in range(len(self._panel))]
        self._noise = normal()
        if self.source.quality is not None:
            mean, variance = self.source.quality
            self._hopes, self._trust = mean, 1.0 / np.maximum(variance, _LEAST_VARIANCE)
        elif self.weighs:
            rates = np.array([(judge.true_positive, judge.false_positive) for judge in self._panel])
            rates = np.minimum(np.maximum(rates, _SURE), 1.0 - _SURE)
            self._for, self._against = (np.log(r[:, 0] / r[:, 1]) for r in (rates, 1.0 - rates))
            strength = np.maximum(self.strength, 0.001)
            self._hopes = np.log(strength / (1.0 - strength))

    def _shared_streams(self, j: int) -> tuple[float, int, NDArray[np.uint64]] | None:
        """How often judge ``j`` draws from what it shares, and the streams of that: coin, mistakes by configuration."""
        judge, name = self._panel[j], self.judge_names[j]
        if not judge.correlation:
            return None
        mistakes = [f"judge.{judge.mistakes or name}.mistake.{config}" for config in self.config_names]
        # two verdicts share a draw if both do: with the root, that has the probability asked for
        return float(np.sqrt(judge.correlation)), stream_id(f"judge.{name}.coin"), stream_ids(mistakes)

    # ---------------------------------------------------------------- candidates

    def _note_candidates(self, rows: I64, record: I64, k: I64, verb: I64, outcome: Outcomes) -> None:
        """Write down what only weighed candidates have: quality, rounds of repair, and what to expect of them."""
        parent = rows * self.max_calls + np.maximum(self.best.take(rows), 0)
        mends = verb == Verb.REPAIR
        self.rounds.reshape(-1)[record] = np.where(mends, self.rounds.reshape(-1).take(parent) + 1, 0)
        quality = self.spec.quality
        if quality is None:
            return
        if outcome.quality is not None:  # a live call's is not known
            self.quality.reshape(-1)[record] = outcome.quality
        hope = self._hopes.take(k)
        if mends.any():
            assert self.spec.repair is not None
            before, harm = np.maximum(self.rank.reshape(-1).take(parent), 0.0), self.spec.repair.harm
            gained = (1.0 - harm) * quality.gain * (1.0 - before) * hope
            hope = np.where(mends, before + gained - harm * 0.5 * quality.loss * before, hope)
        self.merit.reshape(-1)[record] = np.minimum(np.maximum(hope, 0.0), 0.999)

    def _enter(self, rows: I64, record: I64, k: I64, ok: Bools) -> None:
        """Rank candidates that come back, and have them wait for every judge."""
        if self.graded:
            rank = self.merit.reshape(-1).take(record)
            self.evidence.reshape(-1)[record] = self._trust.take(k)
        else:
            rank = self._hopes.take(k) + _MENDED * self.rounds.reshape(-1).take(record)
            self.evidence.reshape(-1)[record] = 0.0
        self.rank.reshape(-1)[record] = np.where(ok, rank, -_INF)
        self.unscored[rows] += ok[:, None]

    # ---------------------------------------------------------------- calls to judges and persons

    def _side_call(self, rows: I64, name: str, verb: Verb, number: I64, chance: F64, right: Bools) -> tuple[Calls, F64]:
        """Place one blocking call to a judge or the person; returns it and the uniform that decides it."""
        place, service, ids = self._side[name]
        keys = self.keys.take(rows)
        u = uniform(keys[:, None], ids, number[:, None])
        assert self._side_bank is not None
        x = self._side_bank.sample(np.array([[2 * place, 2 * place + 1]]), u[:, :2])
        n = len(rows)
        calls = Calls(
            lanes=rows, service=np.full(n, service), verb=np.full(n, int(verb)), number=number,
            started_s=self.clock.take(rows), latency_s=x[:, 1].copy(), cost_usd=x[:, 0].copy(),
            status=np.ones(n, np.int8), right=right, applied=np.ones(n, np.bool_),
            pass_probability=chance, retry_after_s=np.zeros(n), concurrent=np.zeros(n, np.int64),
        )  # fmt: skip
        if self.plan is not None:
            self.plan.strike(calls, keys)
        return calls, u[:, 2]

    def _hand_over(self, rows: I64) -> tuple[Calls, Bools]:
        """Ask the person; returns the call and whether they get it right."""
        person, n = self.spec.person, len(rows)
        assert person is not None
        number, chance = np.zeros(n, np.int64), np.full(n, person.accuracy)
        call, u = self._side_call(rows, "person", Verb.ESCALATE, number, chance, np.ones(n, np.bool_))
        return call, u < call.pass_probability

    def _consult(self, rows: I64, j: int, record: I64) -> tuple[Calls, F64]:
        """Ask judge ``j`` about the candidates in ``record``; returns the call and its scores, 0 or 1 for verdicts."""
        judge, right = self._panel[j], self.right.reshape(-1).take(record)
        if self.graded:
            chance = self.quality.reshape(-1).take(record)
        else:
            chance = np.where(right, judge.true_positive, judge.false_positive)
        number = self.judgements[rows, j]
        calls, u = self._side_call(rows, self.judge_names[j], Verb.JUDGE, number, chance, right)
        shared = self._wrong_alike[j]
        if shared is not None:
            share, coin, mistakes = shared
            keys, k = self.keys.take(rows), self.config.reshape(-1).take(record)
            alike = uniform(keys, coin, number) < share
            if not self.graded:
                alike &= ~right
            u = np.where(alike, uniform(keys, mistakes.take(k)), u)
        if judge.score_sd is None:
            return calls, (u < calls.pass_probability).astype(np.float64)
        score = calls.pass_probability + judge.score_sd * self._noise.sample(u)
        return calls, np.minimum(np.maximum(score, 0.0), 1.0)

    # ---------------------------------------------------------------- verdicts

    def _next_to_judge(self, rows: I64, j: int) -> I64:
        """Column of the best candidate that judge ``j`` has not scored; it never scores one twice."""
        if self.weighs:
            open_ = self.scores[rows, :, j] < 0.0
            return np.where(open_, self.rank.take(rows, axis=0), -_INF).argmax(axis=1)
        value = self.value.take(rows, axis=0)
        return np.where((value >= 1.0) & (value < 2.0), value, -1.0).argmax(axis=1)

    def _judge(self, rows: I64, j: int) -> None:
        """Have judge ``j`` score its next candidate; the clock runs meanwhile."""
        column = self._next_to_judge(rows, j)
        record = rows * self.max_calls + column
        calls, score = self._consult(rows, j, record)
        self.judgements[rows, j] += 1
        until = self.clock.take(rows) + calls.latency_s
        ok = calls.status == Status.OK
        if self.ends_on_deadline:
            deadline = self.preferences["deadline_s"].take(rows)
            over = until > deadline
            if over.any():
                until = np.minimum(until, deadline)
                self.clock[rows] = until  # first, as what still runs is charged up to this moment
                self._end(rows[over], LIMIT)
                ok &= ~over
        self.clock[rows] = until
        if self.weighs:
            value = self._weigh(rows, j, record, score, ok)
        else:
            self.unjudged[rows] -= ok
            value = np.where(score > 0.0, 2.0, 0.0) + self.merit.reshape(-1).take(record)
        self.value.reshape(-1)[record] = np.where(ok, value, self.value.reshape(-1).take(record))
        self.best[rows] = self.rank.take(rows, axis=0).argmax(axis=1)
        k = self.config.reshape(-1).take(record)
        cell = rows * (PER_CONFIG * self.num_configs) + BEST_SCORE * self.num_configs + k
        known = self.conf.reshape(-1).take(cell)
        self.conf.reshape(-1)[cell] = np.where(ok, np.maximum(known, score), known)
        if self._tells(rows):
            name, config = self.judge_names[j], self.config_names[int(k[0])]
            verdict = f"scores {score[0]:.2f} for" if self.graded else "accepts" if score[0] else "rejects"
            self._say(f"{name} {verdict if ok[0] else 'fails to score'} {config}")
        self._pay(rows, calls.cost_usd)

    def _weigh(self, rows: I64, j: int, record: I64, score: F64, ok: Bools) -> F64:
        """Book a score beside those of other judges; returns the candidate's new value."""
        scores = self.scores.reshape(-1, self.scores.shape[2])
        first = scores.take(record, axis=0).max(axis=1) < 0.0
        self.unjudged[rows] -= ok & first
        self.unscored[rows, j] -= ok
        scores[record, j] = np.where(ok, score, scores[record, j])
        rank, evidence = self.rank.reshape(-1), self.evidence.reshape(-1)
        believed, known = rank.take(record), evidence.take(record)
        quality, sd = self.spec.quality, self._panel[j].score_sd
        if quality is not None and sd is not None:
            said = 1.0 / (sd * sd)
            belief, weight = (believed * known + score * said) / (known + said), known + said
            level = np.where(belief >= quality.accept_at, 2.0, 0.0)
            merit = np.minimum(np.maximum(belief, 0.0), 0.999)
        else:
            said = np.where(score > 0.0, self._for[j], self._against[j])
            belief, weight = believed + said, known + said
            level = np.where(weight > 0.0, 2.0, np.where(weight < 0.0, 0.0, 1.0))
            merit = self.merit.reshape(-1).take(record)
        rank[record] = np.where(ok, belief, believed)
        evidence[record] = np.where(ok, weight, known)
        return level + merit

    # ---------------------------------------------------------------- repair

    def _mend(self, which: I64, rows: I64, keys: NDArray[np.uint64], k: I64, number: I64, outcome: Outcomes) -> None:
        """Turn the fresh calls ``which`` into repairs of their lanes' best candidates."""
        repair, quality = self.spec.repair, self.spec.quality
        assert repair is not None
        u = uniform(keys[which, None], self._repair_streams.take(k[which], axis=0), number[which, None])
        lanes = rows[which]
        best = lanes * self.max_calls + self.best.take(lanes)
        if quality is None or outcome.quality is None:
            was_right = self.right.reshape(-1).take(best)
            mended = outcome.right[which] | (u[:, 0] < repair.fix)
            outcome.right[which] = np.where(was_right, u[:, 1] >= repair.harm, mended)
        else:
            before = self.quality.reshape(-1).take(best)
            better = before + quality.gain * (1.0 - before) * outcome.quality[which]
            after = np.where(u[:, 1] < repair.harm, before * (1.0 - quality.loss * u[:, 0]), better)
            outcome.quality[which] = after
            outcome.right[which] = after >= quality.accept_at
        outcome.cost_usd[which] *= repair.cost_factor
        outcome.latency_s[which] *= repair.latency_factor

    # ---------------------------------------------------------------- in the core

    @abstractmethod
    def _end(self, rows: I64, outcome: Any) -> None: ...

    @abstractmethod
    def _pay(self, rows: I64, cost: F64) -> None: ...
