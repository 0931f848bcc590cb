"""OpenTelemetry spans become the columns of a table, and bad ones are refused with their line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from brownout.errors import TableError
from brownout.scenarios.spans import read_spans
from brownout.scenarios.tables import RecordedTable

PRICES = {"large": [2.0, 10.0], "small": [0.1, 0.5]}


def value(item: Any) -> dict[str, Any]:
    if isinstance(item, bool):
        return {"boolValue": item}
    if isinstance(item, int):
        return {"intValue": str(item)}
    return {"doubleValue": item} if isinstance(item, float) else {"stringValue": item}


def otlp(
    id_: str, parent: str = "", start: float = 0.0, end: float = 1.0, error: bool = False, **attributes: Any
) -> dict[str, Any]:
    return {
        "traceId": "t" + id_[0], "spanId": id_, "parentSpanId": parent, "name": "chat",
        "startTimeUnixNano": str(int(start * 1e9)), "endTimeUnixNano": str(int(end * 1e9)),
        "status": {"code": 2} if error else {},
        "attributes": [{"key": key.replace("__", "."), "value": value(item)} for key, item in attributes.items()],
    }  # fmt: skip


def line(*spans: dict[str, Any]) -> str:
    return json.dumps({"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]})


def call(
    id_: str, parent: str, model: str = "large", tokens: tuple[int, int] = (1000, 100), **more: Any
) -> dict[str, Any]:
    usage = {"gen_ai__usage__input_tokens": tokens[0], "gen_ai__usage__output_tokens": tokens[1]}
    return otlp(id_, parent, **{"gen_ai__request__model": model, "gen_ai__operation__name": "chat", **usage, **more})


def run(id_: str, query: str, **more: Any) -> dict[str, Any]:
    return otlp(id_, **{"start": 10.0, "end": 14.5, "brownout__query_id": query, **more})


def write(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "spans.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_run_sums_its_calls(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        line(call("a2", "a1"), otlp("a3", "a1", tool="search"), call("a4", "a3", tokens=(500, 50))),
        line(run("a1", "q1", brownout__success=1)),
    )
    columns = read_spans(path, prices=PRICES)
    assert columns["query_id"] == ["q1"]
    assert columns["config"] == ["large"]
    assert columns["success"] == [1.0]
    assert columns["latency_s"] == pytest.approx([4.5])
    assert columns["tokens_in"] == [1500.0]
    assert columns["tokens_out"] == [150.0]
    assert columns["cost_usd"] == pytest.approx([(1500 * 2.0 + 150 * 10.0) / 1e6])


def test_what_a_run_says_itself_comes_first(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        line(
            call("a2", "a1", gen_ai__provider__name="acme"),
            run("a1", "q1", brownout__success=True, brownout__config="mine", brownout__cost_usd=0.5, brownout__sample=7,
                brownout__judge_accept=False, brownout__failure_mode="max_turns"),
        ),
    )  # fmt: skip
    columns = read_spans(path, prices=PRICES)
    assert (columns["config"], columns["cost_usd"], columns["sample"]) == (["mine"], [0.5], [7.0])
    assert (columns["judge_accept"], columns["provider"]) == ([0.0], ["acme"])
    assert columns["failure_mode"] == ["max_turns"]


def test_repeats_are_numbered_in_order_of_time(tmp_path: Path) -> None:
    runs = [run(f"{c}1", "q1", brownout__success=i % 2, brownout__config="x", start=s, end=s + 1 + i)
            for i, (c, s) in enumerate((("a", 30.0), ("b", 10.0), ("c", 20.0)))]  # fmt: skip
    columns = read_spans(write(tmp_path, line(*runs)))
    assert columns["sample"] == [0, 1, 2]
    assert columns["latency_s"] == pytest.approx([2.0, 3.0, 1.0])
    assert all(math.isnan(cost) for cost in columns["cost_usd"])


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("429", "rate-limited"),
        ("503", "unavailable"),
        ("openai.APITimeoutError", "timeout"),
        ("507", "provider_5xx_or_conn"),
        ("ValueError", "other_exception"),
    ],
)
def test_an_error_is_a_failed_run_with_its_mode(tmp_path: Path, kind: str, mode: str) -> None:
    path = write(tmp_path, line(run("a1", "q1", error=True, error__type=kind, brownout__config="x")))
    columns = read_spans(path)
    assert (columns["success"], columns["failure_mode"]) == ([0.0], [mode])
    RecordedTable.from_columns(columns, eval_fraction=0, missing={"cost_usd": 0.0})


def test_spans_of_the_sdk_are_read(tmp_path: Path) -> None:
    def sdk(span: str, parent: str | None, attributes: dict[str, Any], status: str = "UNSET") -> str:
        return json.dumps({
            "name": "chat large", "context": {"trace_id": "0x1", "span_id": span, "trace_state": "[]"},
            "kind": "SpanKind.CLIENT",
            "parent_id": parent, "start_time": "2026-01-02T03:04:05.000000Z", "end_time": "2026-01-02T03:04:07.250000Z",
            "status": {"status_code": status}, "attributes": attributes,
        })  # fmt: skip

    path = write(
        tmp_path,
        sdk("0xa", None, {"brownout.query_id": 17, "brownout.success": 0.5}),
        sdk("0xb", "0xa", {"gen_ai.response.model": "small", "gen_ai.system": "acme", "gen_ai.usage.prompt_tokens": 10,
                           "gen_ai.usage.completion_tokens": 0}),
    )  # fmt: skip
    columns = read_spans(path, prices=PRICES)
    assert (columns["query_id"], columns["config"], columns["success"]) == (["17"], ["small"], [0.5])
    assert columns["latency_s"] == pytest.approx([2.25])
    assert columns["cost_usd"] == pytest.approx([10 * 0.1 / 1e6])


GOOD = run("a1", "q1", brownout__success=1, brownout__config="x")


def changed(**fields: Any) -> str:
    return line({**GOOD, **fields})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 2: not valid JSON"),
        ("[1]", "line 2: got list"),
        ('{"spans": []}', "line 2: neither OTLP"),
        ('{"resourceSpans": 3}', "line 2: resourceSpans: got int"),
        (changed(startTimeUnixNano="soon"), "line 2: startTimeUnixNano: got 'soon'"),
        (changed(endTimeUnixNano="1"), "line 2: the span ends"),
        (changed(spanId=""), "line 2: a span without trace and span id"),
        (line(run("b1", "q2", brownout__config="x")), "line 2: the run ended well and has no 'brownout.success'"),
        (line(run("b1", "q2", brownout__success=2, brownout__config="x")),
         "line 2: brownout.success: got 2; allowed: a number from 0 to 1"),
        (line(run("b1", "q2", brownout__success=1)), "line 2: the run has neither 'brownout.config'"),
        (line(run("b1", "q2", brownout__success=1), call("b2", "b1", model="larg")),
         "line 2: no price for model 'larg' (did you mean 'large'?)"),
        (line(run("b1", "q2", brownout__success=1, brownout__cost_usd="much", brownout__config="x")),
         "line 2: brownout.cost_usd: got 'much'"),
    ],
)  # fmt: skip
def test_bad_lines_are_refused_by_number(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TableError) as caught:
        read_spans(write(tmp_path, line(GOOD), text), prices=PRICES)
    assert said in str(caught.value)
    assert "spans.jsonl" in str(caught.value)


def test_a_file_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"none of 1 spans has the attribute 'brownout\.query_id'"):
        read_spans(write(tmp_path, line(call("a1", ""))))
    with pytest.raises(TableError, match="no such file"):
        read_spans(tmp_path / "nowhere.jsonl")


def test_spans_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    path = write(
        tmp_path, line(call("a2", "a3"), call("a3", "a2"), run("a1", "q1", brownout__success=1, brownout__config="x"))
    )
    assert read_spans(path)["config"] == ["x"]
