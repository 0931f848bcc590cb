"""Recorded runs from OpenTelemetry spans that follow the semantic conventions for generative AI.

Reads JSON lines as the OTLP file exporter writes them (one ``resourceSpans`` object per line), and spans one
per line as the Python SDK's ``span.to_json(indent=None)`` prints them.

A *run* is a span that says which query it answers; the model calls beneath it (itself included) are its calls.
The semantic conventions have no attributes for query, repeat, success and price, so these are our own:

* ``brownout.query_id`` (makes a span a run), ``brownout.sample`` (default: numbered by start time),
  ``brownout.success`` (0/1, a share, or a boolean; a run that ended in an error counts as 0),
  ``brownout.config`` (default: the models called, joined by ``+``), ``brownout.cost_usd`` (default: token
  usage at a price table), ``brownout.failure_mode``, ``brownout.judge_accept``, ``brownout.judge_score``.
* ``gen_ai.request.model`` (else ``gen_ai.response.model``), ``gen_ai.usage.input_tokens``,
  ``gen_ai.usage.output_tokens``, ``gen_ai.provider.name`` and ``error.type`` are the conventions'; their older
  names ``gen_ai.usage.prompt_tokens``, ``gen_ai.usage.completion_tokens`` and ``gen_ai.system`` are read too.

Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ (status: development) and
https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ..errors import TableError
from .table_io import listed, near

PriceTable = Mapping[str, Sequence[float]]
"""USD per million tokens, input and output, by model."""

SPAN_SUFFIXES: Final = (".jsonl", ".ndjson")
RUN: Final = "brownout.query_id"
_OWN: Final = ("sample", "success", "config", "cost_usd", "failure_mode", "judge_accept", "judge_score")
_BY_CODE: Final = {
    "408": "timeout", "429": "rate-limited", "500": "server-error", "502": "bad-gateway", "503": "unavailable",
    "504": "timeout", "529": "unavailable",
}  # fmt: skip


@dataclass(slots=True)
class _Span:
    line: int
    id: tuple[str, str]
    parent: tuple[str, str] | None
    start_s: float
    end_s: float
    failed: bool
    attributes: dict[str, Any]
    calls: list[_Span] = field(default_factory=list)


def read_spans(path: Path, *, prices: PriceTable | None = None) -> dict[str, list[Any]]:
    """Read a file of spans into the columns of :meth:`RecordedTable.from_columns`.

    Args:
        path: JSON lines.
        prices: for runs without ``brownout.cost_usd``; without either, the cost is missing.

    Raises:
        TableError: naming file, line, field, the value met and what is allowed.
    """
    if not path.is_file():
        raise TableError(f"{path}: no such file")
    spans: dict[tuple[str, str], _Span] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, start=1):
                if text.strip():
                    for span in _spans_of(f"{path}: line {number}", number, text):
                        spans[span.id] = span
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: not UTF-8 text: {error}") from error
    runs = [span for span in spans.values() if RUN in span.attributes]
    if not runs:
        raise TableError(
            f"{path}: none of {len(spans)} spans has the attribute {RUN!r}, so there are no runs; set it on the "
            "span of each run (see docs/calibrate.md)"
        )
    for span in spans.values():
        if _model(span) is None:
            continue
        at: _Span | None = span
        seen: set[tuple[str, str]] = set()
        while at is not None and RUN not in at.attributes and at.id not in seen:
            seen.add(at.id)
            at = spans.get(at.parent) if at.parent else None
        if at is not None and RUN in at.attributes:
            at.calls.append(span)
    rows = [_row(f"{path}: line {run.line}", run, prices) for run in sorted(runs, key=lambda r: (r.start_s, r.line))]
    _number_samples(rows)
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
    optional = ("failure_mode", "judge_accept", "judge_score", "provider")
    return {k: v for k, v in columns.items() if k not in optional or any(x is not None for x in v)}


def _row(where: str, run: _Span, prices: PriceTable | None) -> dict[str, Any]:
    own = {name: run.attributes.get(f"brownout.{name}") for name in _OWN}
    models = list(dict.fromkeys(str(_model(call)) for call in run.calls))
    config = own["config"] or "+".join(models)
    if not config:
        raise TableError(
            f"{where}: the run has neither 'brownout.config' nor a call with 'gen_ai.request.model' beneath it"
        )
    success = own["success"]
    mode = own["failure_mode"] or (_mode(run) if run.failed else None)
    if success is None:
        if not run.failed:
            raise TableError(
                f"{where}: the run ended well and has no 'brownout.success'; allowed: a share in [0, 1] or a boolean"
            )
        success = 0
    usage = [(_tokens(where, call, 0), _tokens(where, call, 1)) for call in run.calls]
    providers = {str(p) for call in run.calls if (p := _first(call, "gen_ai.provider.name", "gen_ai.system"))}
    cost = own["cost_usd"]
    if cost is None and prices is not None:
        cost = sum(_price(where, str(_model(c)), u, prices) for c, u in zip(run.calls, usage, strict=True))
    sides = [[u[i] for u in usage] for i in range(2)]
    tokens = [math.nan if None in side or not side else float(sum(filter(None, side))) for side in sides]
    return {
        "query_id": str(run.attributes[RUN]),
        "config": str(config),
        "sample": None if own["sample"] is None else _number(where, "brownout.sample", own["sample"], 2.0**53),
        "success": _number(where, "brownout.success", success, 1.0),
        "cost_usd": math.nan if cost is None else _number(where, "brownout.cost_usd", cost),
        "latency_s": run.end_s - run.start_s,
        "tokens_in": tokens[0],
        "tokens_out": tokens[1],
        "failure_mode": mode,
        "judge_accept": _optional(where, "brownout.judge_accept", own["judge_accept"], 1.0),
        "judge_score": _optional(where, "brownout.judge_score", own["judge_score"]),
        "provider": providers.pop() if len(providers) == 1 else None,
    }


def _number_samples(rows: list[dict[str, Any]]) -> None:
    """Runs that do not say which repeat they are take the next free number, in order of time."""
    taken: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        if row["sample"] is not None:
            taken.setdefault((row["query_id"], row["config"]), set()).add(int(row["sample"]))
    for row in rows:
        if row["sample"] is None:
            used = taken.setdefault((row["query_id"], row["config"]), set())
            row["sample"] = next(n for n in range(len(used) + 1) if n not in used)
            used.add(row["sample"])


def _model(span: _Span) -> Any:
    return _first(span, "gen_ai.request.model", "gen_ai.response.model")


def _first(span: _Span, *names: str) -> Any:
    return next((span.attributes[name] for name in names if span.attributes.get(name) not in (None, "")), None)


def _tokens(where: str, call: _Span, side: int) -> float | None:
    new, old = ("input_tokens", "output_tokens")[side], ("prompt_tokens", "completion_tokens")[side]
    value = _first(call, f"gen_ai.usage.{new}", f"gen_ai.usage.{old}")
    return None if value is None else _number(f"{where}: call in line {call.line}", f"gen_ai.usage.{new}", value)


def _price(where: str, model: str, usage: tuple[float | None, float | None], prices: PriceTable) -> float:
    if model not in prices:
        raise TableError(f"{where}: no price for model {model!r}{near(model, prices)}; the table has: {listed(prices)}")
    if None in usage:
        raise TableError(
            f"{where}: a call of {model!r} has no token usage to price; set 'gen_ai.usage.input_tokens' and "
            "'gen_ai.usage.output_tokens', or 'brownout.cost_usd' on the run"
        )
    return sum((tokens or 0.0) * float(price) / 1e6 for tokens, price in zip(usage, prices[model], strict=True))


def _mode(run: _Span) -> str:
    """Failure mode from ``error.type`` of the run, or of the last call that has one."""
    kinds = [s.attributes.get("error.type") for s in (run, *reversed(run.calls))]
    kind = next((str(k) for k in kinds if k not in (None, "")), "")
    if "timeout" in kind.lower().replace("_", "").replace("-", ""):
        return "timeout"
    return _BY_CODE.get(kind, "provider_5xx_or_conn" if kind.startswith("5") and kind.isdigit() else "other_exception")


def _number(where: str, name: str, value: Any, high: float = math.inf) -> float:
    allowed = "a number from 0" if math.isinf(high) else f"a number from 0 to {high:g}"
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and 0.0 <= number <= high):
        raise TableError(f"{where}: {name}: got {value!r}; allowed: {allowed}")
    return number


def _optional(where: str, name: str, value: Any, high: float = math.inf) -> float | None:
    return None if value is None else _number(where, name, value, high)


# ---------------------------------------------------------------- the two encodings


def _spans_of(where: str, number: int, text: str) -> Iterator[_Span]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise TableError(f"{where}: not valid JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(data, dict):
        raise TableError(f"{where}: got {type(data).__name__}; allowed: one JSON object per line")
    if "resourceSpans" in data:
        for resource in _list(where, data, "resourceSpans"):
            for scope in _list(where, resource, "scopeSpans"):
                for span in _list(where, scope, "spans"):
                    yield _from_otlp(where, number, span)
    elif "context" in data and "attributes" in data:
        yield _from_sdk(where, number, data)
    else:
        raise TableError(
            f"{where}: neither OTLP ('resourceSpans') nor a span of the SDK ('context', 'attributes'); "
            f"it has: {listed(data)}"
        )


def _list(where: str, data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = data.get(name, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise TableError(f"{where}: {name}: got {type(found).__name__}; allowed: a list of objects")
    return found


def _from_otlp(where: str, number: int, span: Mapping[str, Any]) -> _Span:
    trace, parent = str(span.get("traceId", "")), str(span.get("parentSpanId", ""))
    times = []
    for name in ("startTimeUnixNano", "endTimeUnixNano"):
        value = span.get(name)
        if isinstance(value, bool) or not str(value).isdigit():
            raise TableError(f"{where}: {name}: got {value!r}; allowed: nanoseconds since 1970 as a whole number")
        times.append(int(str(value)))
    attributes = {}
    for pair in _list(where, span, "attributes"):
        value = pair.get("value")
        if not isinstance(pair.get("key"), str) or not isinstance(value, dict):
            raise TableError(f"{where}: attributes: got {pair!r}; allowed: {{'key': text, 'value': {{kind: value}}}}")
        attributes[pair["key"]] = _any_value(value)
    code = (span.get("status") or {}).get("code", 0)
    return _checked(
        where, number, (trace, str(span.get("spanId", ""))), (trace, parent) if parent else None, times,
        code in (2, "STATUS_CODE_ERROR"), attributes,
    )  # fmt: skip


def _any_value(value: Mapping[str, Any]) -> Any:
    if "intValue" in value:
        return int(value["intValue"])  # OTLP writes 64-bit integers as text
    return next((value[kind] for kind in ("stringValue", "doubleValue", "boolValue") if kind in value), None)


def _from_sdk(where: str, number: int, span: Mapping[str, Any]) -> _Span:
    context, attributes = span["context"], span["attributes"]
    if not isinstance(context, dict) or not isinstance(attributes, dict):
        raise TableError(f"{where}: context and attributes must be objects")
    times = []
    for name in ("start_time", "end_time"):
        value = span.get(name)
        try:
            stamp = datetime.fromisoformat(str(value))
        except ValueError:
            raise TableError(f"{where}: {name}: got {value!r}; allowed: ISO 8601 time") from None
        times.append(round(stamp.timestamp() * 1e6) * 1000)
    trace, parent = str(context.get("trace_id", "")), span.get("parent_id")
    failed = str((span.get("status") or {}).get("status_code", "UNSET")).upper() == "ERROR"
    return _checked(
        where, number, (trace, str(context.get("span_id", ""))), (trace, str(parent)) if parent else None, times,
        failed, dict(attributes),
    )  # fmt: skip


def _checked(
    where: str, number: int, id_: tuple[str, str], parent: tuple[str, str] | None, times: Sequence[int], failed: bool,
    attributes: dict[str, Any],
) -> _Span:  # fmt: skip
    if not all(id_):
        raise TableError(f"{where}: a span without trace and span id; allowed: both as text")
    if times[1] < times[0]:
        raise TableError(f"{where}: the span ends {(times[0] - times[1]) / 1e9:g} s before it starts")
    first = times[0] / 1e9
    return _Span(number, id_, parent, first, first + (times[1] - times[0]) / 1e9, failed, attributes)
