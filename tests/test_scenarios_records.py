"""Records from schemas: relations, keys, streams, locales, and errors that name the place."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from brownout.errors import RecordError, ScenarioError
from brownout.scenarios import RecordSource, builtin_record_schemas, builtin_scenarios, load_record_schema
from brownout.scenarios.record_codes import Permutation, zero_padded
from brownout.scenarios.record_pools import pool
from brownout.scenarios.record_schema import GROUP

BUILT_IN = ("commerce", "insurance", "workplace")
KINDS = [(name, kind) for name in BUILT_IN for kind in load_record_schema(name).kinds]
EMAIL = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)?[0-9]{8}@example\.(com|org|net)")


@pytest.fixture(scope="module")
def commerce() -> RecordSource:
    return RecordSource("commerce", seed=7)


def small(**kinds: dict[str, Any]) -> dict[str, Any]:
    """A schema of kinds given by their fields."""
    return {"version": 1, "name": "small", "kinds": {name: {"fields": fields} for name, fields in kinds.items()}}


# ---------------------------------------------------------------- the library


def test_the_library_loads() -> None:
    assert tuple(builtin_record_schemas()) == BUILT_IN
    assert not set(builtin_record_schemas()) & set(builtin_scenarios())
    assert not [name for name in builtin_scenarios() if "records" in name]
    for name in BUILT_IN:
        assert load_record_schema(name).profiles["clean"] == []
        assert load_record_schema(name).profiles["production"]
    schema = load_record_schema("commerce")
    assert load_record_schema(schema) is schema
    assert set(schema.kinds) >= {"customer", "order", "invoice", "subscription", "ticket", "payment", "product"}


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_one_record_equals_its_row_in_a_block(name: str, kind: str) -> None:
    source = RecordSource(name, seed=3)
    rows = np.array([5, 0, 4097, 5])
    block, text = source.fields(kind, rows), source.text(kind, rows)
    for place, row in enumerate(rows.tolist()):
        record = RecordSource(name, seed=3).record(kind, row)
        assert list(record) == list(block)
        for field, value in record.items():
            cell = block[field][place]
            expected = text[field][place] if block[field].dtype.kind in "OM" else cell.item()
            assert value == expected
            assert type(value) in (str, int, float)
    last = list(block)[-1]
    alone = source.fields(kind, rows[:1], [last])
    assert list(alone) == [last]
    assert alone[last][0] == block[last][0]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_rows_do_not_depend_on_their_company(name: str, kind: str) -> None:
    source = RecordSource(name, seed=3)
    whole = source.text(kind, np.arange(600))
    parts = [source.text(kind, np.arange(start, start + 200)) for start in (400, 0, 200)]
    for field in whole:
        assert whole[field].tolist() == [value for i in (1, 2, 0) for value in parts[i][field]]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_seeds_make_other_records(name: str, kind: str) -> None:
    rows = np.arange(200)
    one, two = (RecordSource(name, seed=seed).text(kind, rows) for seed in (1, 2))
    assert all((one[field] != two[field]).any() for field in one)


def test_versions_differ_and_keep_what_identifies(commerce: RecordSource) -> None:
    rows = np.arange(300)
    now, before = commerce.text("order", rows), commerce.text("order", rows, version=1)
    assert (now["order_id"] == before["order_id"]).all()
    assert (now["customer_id"] == before["customer_id"]).all()
    assert (now["shipping"] != before["shipping"]).mean() > 0.9


# ---------------------------------------------------------------- keys and codes


@given(st.integers(0, 2**63 - 1), st.integers(3, 9), st.lists(st.integers(0, 10**9 - 1), min_size=1, max_size=20))
@settings(deadline=None, max_examples=60)
def test_permutations_are_one_to_one(seed: int, digits: int, rows: list[int]) -> None:
    permutation = Permutation("key", seed, 10**digits)
    inside = sorted({row % 10**digits for row in rows})
    numbers = permutation.number(np.array(inside))
    assert len(set(numbers.tolist())) == len(inside)
    assert [permutation.row(number) for number in numbers.tolist()] == inside


def test_a_small_permutation_is_complete() -> None:
    assert sorted(Permutation("key", 5, 1000).number(np.arange(1000)).tolist()) == list(range(1000))


def test_keys_are_unique_and_lead_back(commerce: RecordSource) -> None:
    keys = commerce.text("customer", np.arange(50_000))
    for field in ("customer_id", "email"):
        assert len(set(keys[field].tolist())) == 50_000, field
    assert commerce.row("customer", keys["customer_id"][1234]) == 1234
    for wrong in ("C-1", "X-00000001", "C-0000000a", "", "C-000000001"):
        with pytest.raises(RecordError, match=re.escape(f"customer: no record has the key {wrong!r}")):
            commerce.record("customer", wrong)
    with pytest.raises(RecordError, match=r"row 1000000 is not allowed: 0 to 999999"):
        commerce.fields("product", [1_000_000])
    with pytest.raises(RecordError, match=r"row -1 is not allowed"):
        commerce.record("product", -1)


def luhn_sum(code: str) -> int:
    doubled = [int(c) * (1 + place % 2) for place, c in enumerate(reversed(code))]
    return sum(value - 9 * (value > 9) for value in doubled)


def test_codes_have_right_check_digits() -> None:
    schema = small(
        code={
            "card": {"type": "code", "scheme": "luhn", "prefix": "4"},
            "ean": {"type": "code", "scheme": "ean13"},
            **{f"iban_{c.lower()}": {"type": "code", "scheme": "iban", "prefix": c} for c in ("DE", "BE", "PL")},
        }
    )
    found = RecordSource(schema).text("code", np.arange(500))
    for card in found["card"]:
        assert len(card) == 16
        assert card[0] == "4"
        assert luhn_sum(card) % 10 == 0
    for ean in found["ean"]:
        assert len(ean) == 13
        assert sum(int(c) * (1, 3)[place % 2] for place, c in enumerate(ean)) % 10 == 0
    for country, length in (("de", 22), ("be", 16), ("pl", 28)):
        for iban in found[f"iban_{country}"]:
            assert len(iban) == length
            moved = iban[4:] + iban[:4]
            assert int("".join(str(int(c, 36)) for c in moved)) % 97 == 1
            assert 2 <= int(iban[2:4]) <= 98
    assert luhn_sum("79927398713") % 10 == 0  # the textbook example, so that the check itself is right


@pytest.mark.parametrize(("number", "digits", "text"), [(7, 3, "007"), (123456, 9, "000123456"), (0, 5, "00000")])
def test_leading_zeros(number: int, digits: int, text: str) -> None:
    assert zero_padded(np.array([number]), digits).tolist() == [text]


# ---------------------------------------------------------------- relations


@given(st.integers(0, 2**40), st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_relations_hold(seed: int, first: int) -> None:
    """A customer is there, lines add up, dates follow each other: anywhere, for any seed."""
    source = RecordSource("commerce", seed)
    rows = np.arange(first, first + 8)
    orders = source.fields("order", rows)
    for place, row in enumerate(rows.tolist()):
        customer: dict[str, Any] = dict(source.record("customer", orders["customer_id"][place]))
        assert customer["email"] == orders["email"][place]
        assert np.datetime64(str(customer["signed_up"])) <= orders["ordered_on"][place] <= orders["shipped_on"][place]
        lines = source.children("order_line", "order", row)
        assert len(lines) >= 1
        line = source.fields("order_line", lines)
        assert set(line["order_id"].tolist()) == {orders["order_id"][place]}
        cents = np.rint(line["quantity"] * line["unit_price"] * 100)
        assert (np.rint(line["amount"] * 100) == cents).all()
        assert round(orders["goods"][place] * 100) == cents.sum()
        total = round(orders["goods"][place] * 100) + round(orders["shipping"][place] * 100)
        assert round(orders["total"][place] * 100) == total
        (invoice,) = source.children("invoice", "order", row)
        bill: dict[str, Any] = dict(source.record("invoice", int(invoice)))
        assert bill["net"] == orders["total"][place]
        assert round(float(bill["gross"]) * 100) == round(float(bill["net"]) * 100) + round(float(bill["tax"]) * 100)
        assert bill["issued_on"] <= bill["due_on"]


def test_parents_and_children_are_each_others(commerce: RecordSource) -> None:
    rows = np.arange(4000)
    parents = commerce.parents("order", rows, "customer")
    counts = np.bincount(parents, minlength=parents.max() + 1)
    for parent in (0, 1, 77, 500):
        assert commerce.children("order", "customer", parent).tolist() == (parents == parent).nonzero()[0].tolist()
    whole = counts[: 4000 // (3 * GROUP) * GROUP]
    assert abs(whole.mean() - 3.0) < 0.05
    assert whole.min() == 0
    assert whole.max() > 5
    lines = commerce.parents("order_line", np.arange(20_000), "order")
    assert np.bincount(lines)[: lines.max() // 2].min() == 1
    assert commerce.parents("order_line", rows, "product").max() < 5000
    with pytest.raises(RecordError, match="order has no reference to 'ticket'"):
        commerce.parents("order", [0], "ticket")
    with pytest.raises(RecordError, match="order_line has no reference to 'product' with each"):
        commerce.children("order_line", "product", 0)


def test_choices_and_amounts_follow_their_distributions(commerce: RecordSource) -> None:
    found = commerce.fields("product", np.arange(100_000), ["price", "weight_unit"])
    assert abs(np.median(found["price"]) - 24.0) < 0.5
    assert abs(np.quantile(found["price"], 0.95) - 180.0) < 6.0
    assert abs((found["weight_unit"] == "g").mean() - 0.9) < 0.005
    assert (np.rint(found["price"] * 100) / 100 == found["price"]).all()


# ---------------------------------------------------------------- locales, pools, Faker


def test_locales_are_mixed_by_share() -> None:
    source = RecordSource("commerce", locale={"ja_JP": 0.25, "de_DE": 0.75})
    found = source.text("customer", np.arange(20_000), ["phone", "email", "first_name"])
    japanese = np.array([phone.startswith("+81-") for phone in found["phone"]])
    assert abs(japanese.mean() - 0.25) < 0.015
    assert all(phone.startswith(("+81-", "+49-")) for phone in found["phone"])
    assert all(EMAIL.fullmatch(address) for address in found["email"]), "addresses are ASCII in every locale"
    assert not any(name.isascii() for name in found["first_name"][japanese])


def test_names_and_addresses_follow_the_locale() -> None:
    schema = small(p={"name": {"type": "name"}, "address": {"type": "address"}, "street": {"type": "street"}})
    japanese = RecordSource(schema, locale="ja_JP").text("p", np.arange(200))
    last = set(pool("ja_JP", "last_name", 1000).tolist())
    assert all(name.split(" ")[0] in last for name in japanese["name"])
    german = RecordSource(schema, locale="de_DE").text("p", np.arange(200))
    assert all(re.search(r" \d{1,3}, \d{5} \S", address) for address in german["address"])
    english = RecordSource(schema, locale="en_US").text("p", np.arange(200))
    assert all(re.match(r"\d{1,3} \S", street) for street in english["street"])


def test_pools_leave_global_generators_alone() -> None:
    code = """
import random
import numpy as np
from faker import Faker
from faker.generator import mod_random
random.seed(1); np.random.seed(1); Faker.seed(1)
before = random.getstate(), np.random.get_state()[1].tolist(), mod_random.getstate()
from brownout.scenarios import RecordSource
RecordSource("insurance", seed=9).text("claim", np.arange(100))
assert (random.getstate(), np.random.get_state()[1].tolist(), mod_random.getstate()) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_equal_in_any_process() -> None:
    code = """
import hashlib, numpy as np
from brownout.scenarios import RecordSource
digest = hashlib.sha256()
for name, kinds in (("commerce", ("order_line", "ticket", "customer")), ("workplace", ("access_request",))):
    source = RecordSource(name, seed=11)
    for kind in kinds:
        for values in source.text(kind, np.arange(300)).values():
            digest.update("|".join(values).encode())
print(digest.hexdigest())
"""
    found = set()
    for salt in ("0", "1", "random"):
        env = {**os.environ, "PYTHONHASHSEED": salt}
        run = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=100, env=env
        )
        found.add(run.stdout)
    assert len(found) == 1


# ---------------------------------------------------------------- errors

BAD = {
    "kinds.a.fields.x.type": ({"x": {"type": "nmae"}}, "got 'nmae'; allowed: 'key', 'faker', 'name'"),
    "kinds.a.fields.x.provider": ({"x": {"type": "faker"}}, "required field is missing"),
    "kinds.a.fields.x.pool": ({"x": {"type": "faker", "provider": "city", "pool": 0}}, "got 0"),
    "kinds.a.fields.x.colour": ({"x": {"type": "name", "colour": "red"}}, "unknown field"),
    "kinds.a.fields.x.to": ({"x": {"type": "reference", "to": "b"}}, "no kind 'b'; allowed: a"),
    "kinds.a.fields.x.pair": ({"x": {"type": "name", "pair": "y"}}, "no other field 'y' in a; allowed: x"),
    "kinds.a.fields.x.of": ({"x": {"type": "product", "of": ["y"]}}, "no field 'y' in a; allowed: x"),
    "kinds.a.fields.x.template": ({"x": {"type": "text", "template": "{y!r}"}}, "write fields as {name}"),
    "kinds.a.fields.x.after": ({"x": {"type": "date", "after": "b.c"}}, "no kind 'b'"),
    "kinds.a.fields.x.start": ({"x": {"type": "date", "start": "2024-01-01"}}, "give start and end"),
    "kinds.a.fields.x.end": ({"x": {"type": "date", "start": "2024-02-01", "end": "2024-01-01"}}, "must not be before"),
    "kinds.a.fields.x.value": ({"x": {"type": "amount", "value": {"median": 2}}}, "p95"),
    "kinds.a.fields.x.values": ({"x": {"type": "choice", "values": ["a", ""]}}, "none of them empty"),
    "kinds.a.fields.x.prefix": ({"x": {"type": "code", "scheme": "iban", "prefix": "GB"}}, "no country 'GB'; allowed"),
    "kinds.a.fields.x.unit": ({"x": {"type": "amount", "value": 1, "unit": "y"}, "y": {"type": "name"}}, "a choice"),
    "kinds.a.fields.x.each": ({"x": {"type": "reference", "to": "a", "each": 1, "at_least": 2}}, "at_least = 2"),
    "kinds.a.fields.x": ({"x": {"type": "sum", "of": ["y"]}, "y": {"type": "sum", "of": ["x"]}}, "made from itself"),
    "kinds.a.fields.x.pair: ": (
        {"x": {"type": "name", "pair": "z"}, "y": {"type": "name", "pair": "z"}, "z": {"type": "name"}}, "another pair"
    ),
    "kinds.a.fields.y.type": ({"x": {"type": "key"}, "y": {"type": "key"}}, "a already has the key 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("place", BAD)
def test_bad_fields_are_refused_with_file_and_line(place: str, tmp_path: Path) -> None:
    fields, message = BAD[place]
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(small(a=fields), sort_keys=False))
    with pytest.raises(RecordError) as caught:
        load_record_schema(path)
    first = str(caught.value).splitlines()[0]
    assert re.match(rf"{re.escape(str(path))}:\d+: {re.escape(place)}", first), first
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"main": "b"}, "main: no kind 'b'; allowed: a"),
        ({"version": 2}, "version"),
        ({"locales": {"en_US": -1}}, "locales.en_US"),
        ({"kinds": {}}, "kinds"),
        ({"profiles": {"clean": [{"fault": "typo"}]}}, "has no faults by definition"),
        ({"profiles": {"x": [{"fault": "tpyo", "when": "rate(1)"}]}}, "unknown fault 'tpyo'; did you mean 'typo'"),
        ({"profiles": {"x": [{"fault": "timeout", "when": "rate(1)"}]}}, "needs the port calls"),
        ({"profiles": {"x": [{"fault": "typo", "when": "rate(1) & on('b.*')"}]}}, "on('b.*') matches no field"),
        ({"profiles": {"x": [{"fault": "outlier", "when": "rate(1)"}]}}, "it can strike no field"),
        ({"profiles": {"x": [{"fault": "typo", "when": "when(x > 1)"}]}}, "'x' is not a known quantity here"),
    ],
)  # fmt: skip
def test_bad_schemas_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError) as caught:
        load_record_schema({**small(a={"x": {"type": "name"}}), **change})
    assert message in str(caught.value)


def test_a_fault_plan_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    data = {**small(a={"x": {"type": "name"}}), "profiles": {"x": [{"fault": "typo", "when": "rate(2)"}]}}
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(RecordError, match=rf"{re.escape(str(path))}:\d+: profiles.x\[0\] \(typo\).*p = 2"):
        load_record_schema(path)


@pytest.mark.parametrize(
    ("fields", "locale", "message"),
    [
        ({"x": {"type": "faker", "provider": "frist_name"}}, None, "a.fields.x.provider: Faker has no 'frist_name'"),
        ({"x": {"type": "faker", "provider": "seed_instance"}}, None, "Faker has no 'seed_instance'"),
        ({"x": {"type": "faker", "provider": "__class__"}}, None, "Faker has no '__class__'"),
        ({"x": {"type": "faker", "provider": "binary"}}, None, "gives bytes"),
        ({"x": {"type": "faker", "provider": "sentence", "arguments": {"wordz": 3}}}, None, "raised TypeError"),
        ({"x": {"type": "name"}}, "de_DF", "Faker has no locale 'de_DF'; did you mean"),
        ({"x": {"type": "name"}}, {}, "is not allowed: give a Faker locale"),
        ({"x": {"type": "name"}}, {"en_US": 0.0}, "is not allowed: give a Faker locale"),
    ],
)  # fmt: skip
def test_what_faker_does_not_have_is_refused(fields: dict[str, Any], locale: Any, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        RecordSource(small(a=fields), locale=locale).text("a", [0])


def test_kinds_may_refer_to_each_other() -> None:
    schema = small(
        a={"id": {"type": "key"}, "b": {"type": "reference", "to": "b"}, "copied": {"type": "copy", "of": "b.n"}},
        b={"copied": {"type": "copy", "of": "a.id"}, "id": {"type": "key"}, "a": {"type": "reference", "to": "a"},
           "n": {"type": "integer", "value": {"low": 1, "high": 9}}},
    )  # fmt: skip
    for kind in schema["kinds"].values():
        kind["rows"] = 10
    source = RecordSource(schema)
    one = source.record("a", 3)
    assert one["copied"] == source.record("b", str(one["b"]))["n"]
    other = source.record("b", 4)
    assert other["copied"] == other["a"]


def test_unknown_names_are_refused(commerce: RecordSource, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"commerce: no kind 'ordr' \(did you mean 'order'\?\); allowed: customer"):
        commerce.record("ordr", 0)
    with pytest.raises(RecordError, match=r"order: no field 'totl' \(did you mean 'total'\?\)"):
        commerce.fields("order", [0], ["totl"])
    with pytest.raises(RecordError, match=r"no schema of records 'comerce'.*did you mean 'commerce'"):
        load_record_schema("comerce")
    for text in ("- 1\n", "a: [\n", "a: 1\na: 2\n"):
        path = tmp_path / "x.yaml"
        path.write_text(text)
        with pytest.raises(RecordError, match=re.escape(str(path))):
            load_record_schema(path)
    assert issubclass(RecordError, ScenarioError)
