"""Messy tables: the mask is exact, what is called repairable can be repaired, and mechanisms are what they say."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from brownout.errors import FaultError, RecordError
from brownout.faults import FaultPlan
from brownout.scenarios import RecordSource
from brownout.scenarios.messy import MessyBlock, MessyRecords
from faults_support import chance_interval

N = 20_000


@pytest.fixture(scope="module")
def commerce() -> RecordSource:
    return RecordSource("commerce", seed=7)


def plan(*specs: dict[str, Any]) -> FaultPlan:
    return FaultPlan.from_specs(specs, "plan")


def one(source: RecordSource, kind: str, fault: str, when: str, **parameters: Any) -> MessyBlock:
    """A block with one fault."""
    return MessyRecords(source, kind, plan({"fault": fault, "when": when, **parameters})).block(0, N)


def assert_exact(block: MessyBlock) -> None:
    """Every unmasked cell equals the clean value, every masked one differs."""
    for column, name in enumerate(block.names):
        same = block.values[name] == block.clean[name]
        assert (same == ~block.dirty[:, column]).all(), name
        assert all(value is None or isinstance(value, str) for value in block.values[name].tolist())


def digest(messy: MessyRecords, records: int, size: int) -> str:
    """Everything in the blocks, as one number."""
    whole = hashlib.sha256()
    parts = list(messy.blocks(records, size))
    for name in messy.names:
        for form in ("values", "clean"):
            values = [value for part in parts for value in getattr(part, form)[name].tolist()]
            whole.update(repr(values).encode())
    for name in ("record", "copy", "fault", "visible", "repairable"):
        whole.update(np.concatenate([getattr(part, name) for part in parts]).tobytes())
    return whole.hexdigest()


# ---------------------------------------------------------------- the mask


@pytest.mark.parametrize(("kind", "mess"), [("customer", "production"), ("order", "hostile")])
def test_the_mask_is_exact_on_a_hundred_thousand_records(commerce: RecordSource, kind: str, mess: str) -> None:
    messy = MessyRecords(commerce, kind, mess)
    rows = dirty = 0
    for block in messy.blocks(100_000):
        assert_exact(block)
        assert (block.visible <= block.dirty).all()
        assert (block.repairable <= block.dirty).all()
        rows += len(block)
        dirty += int(block.dirty.sum())
    assert rows > 100_000
    assert 0.03 < dirty / (rows * len(messy.names)) < 0.4


@pytest.mark.parametrize("name", ["commerce", "insurance", "workplace"])
def test_every_kind_of_every_schema_is_exact(name: str) -> None:
    source = RecordSource(name, seed=1)
    for kind in source.schema.kinds:
        for mess in source.schema.profiles:
            block = MessyRecords(source, kind, mess).block(500, 2500)
            assert_exact(block)
            assert block.dirty.any() == (mess != "clean")


def test_intensity_zero_is_the_clean_table(commerce: RecordSource) -> None:
    quiet = digest(MessyRecords(commerce, "order", "production", intensity=0.0), 3000, 1000)
    assert quiet == digest(MessyRecords(commerce, "order", "clean"), 3000, 1000)
    block = MessyRecords(commerce, "order", "clean").block(0, 100)
    assert all((block.values[n] == commerce.text("order", np.arange(100))[n]).all() for n in block.names)
    more = MessyRecords(commerce, "order", "production", intensity=2.0).block(0, 5000)
    less = MessyRecords(commerce, "order", "production", intensity=0.5).block(0, 5000)
    assert more.dirty.mean() > 3 * less.dirty.mean()


def test_an_undeclared_hostile_is_production_twice() -> None:
    source = RecordSource("workplace", seed=3)
    assert "hostile" not in source.schema.profiles
    hostile = MessyRecords(source, "employee", "hostile")
    assert digest(hostile, 2000, 2000) == digest(MessyRecords(source, "employee", "production", 2.0), 2000, 2000)


def test_blocks_of_any_size_are_equal(commerce: RecordSource) -> None:
    messy = MessyRecords(commerce, "invoice", "hostile")
    assert len({digest(messy, 3000, size) for size in (3000, 1000, 77)}) == 1
    other = MessyRecords(RecordSource("commerce", seed=8), "invoice", "hostile")
    assert digest(other, 3000, 3000) != digest(messy, 3000, 3000)


def test_equal_in_any_process() -> None:
    code = """
import sys
from brownout.scenarios import RecordSource
from brownout.scenarios.messy import MessyRecords
sys.path.insert(0, "tests")
from test_scenarios_messy import digest
print(digest(MessyRecords(RecordSource("insurance", seed=4), "claim", "hostile"), 2000, 500))
"""
    found = set()
    for salt in ("0", "1"):
        env = {**os.environ, "PYTHONHASHSEED": salt}
        run = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=100, env=env
        )
        found.add(run.stdout.strip())
    found.add(digest(MessyRecords(RecordSource("insurance", seed=4), "claim", "hostile"), 2000, 2000))
    assert len(found) == 1


def test_another_fault_changes_no_cell_it_does_not_strike(commerce: RecordSource) -> None:
    typo = {"fault": "typo", "when": "rate(0.05)"}
    gaps = {"fault": "missing-field", "when": "rate(0.05)"}
    alone = MessyRecords(commerce, "customer", plan(typo)).block(0, N)
    both = MessyRecords(commerce, "customer", plan(typo, gaps)).block(0, N)
    for column, name in enumerate(alone.names):
        same = both.fault[:, column] == 1
        assert (same == alone.dirty[:, column]).all()
        assert (alone.values[name][same] == both.values[name][same]).all()


# ---------------------------------------------------------------- what can be repaired


def cells(block: MessyBlock, name: str) -> list[tuple[int, str, str]]:
    """Row, value and clean value of the dirty cells of a field."""
    column = block.names.index(name)
    rows = block.dirty[:, column].nonzero()[0]
    return [(row, block.values[name][row], block.clean[name][row]) for row in rows.tolist()]


def test_damaged_encodings_decode_back(commerce: RecordSource) -> None:
    block = one(commerce, "customer", "encoding-damage", "rate(0.3)")
    assert (block.repairable == block.dirty).all()
    for name in ("first_name", "city", "street"):
        found = cells(block, name)
        assert len(found) > 5000
        for _, value, clean in found:
            decoded = value.encode("latin-1").decode("utf-8").removeprefix("\ufeff").replace("\u00a0", " ")
            assert decoded == clean


def test_other_units_convert_back(commerce: RecordSource) -> None:
    rates = {"USD": 1.0, "EUR": 0.92, "GBP": 0.79}
    block = one(commerce, "order", "wrong-unit", "rate(0.3)")
    found = cells(block, "total")
    assert abs(len(found) / N - 0.3) < 0.02
    for row, value, clean in found:
        used, meant = block.values["currency"][row], block.clean["currency"][row]
        assert used != meant
        assert abs(float(value) / rates[used] * rates[meant] - float(clean)) < 0.005
    assert block.repairable[block.dirty].all()


def test_swapped_fields_are_both_there(commerce: RecordSource) -> None:
    block = one(commerce, "customer", "swapped-fields", "rate(0.2) & on('*.first_name')")
    found = cells(block, "first_name")
    assert abs(len(found) / N - 0.2) < 0.02
    equal = 0
    for row, value, clean in found:
        if clean == block.clean["last_name"][row]:
            equal += 1
            continue
        assert (value, block.values["last_name"][row]) == (block.clean["last_name"][row], clean)
    assert equal < 20
    assert set(cells(block, "last_name"))
    assert block.repairable[block.dirty].all()


def test_the_newer_of_two_versions_is_right(commerce: RecordSource) -> None:
    block = one(commerce, "customer", "conflicting-duplicate", "rate(0.1)")
    low, high = chance_interval(0.1, N)
    assert low < block.copy.mean() * len(block) / N < high
    copies = block.copy.nonzero()[0]
    first = 0
    for row in copies.tolist():
        twin = row - 1 if row and block.record[row - 1] == block.record[row] else row + 1
        assert block.record[twin] == block.record[row]
        assert not block.copy[twin]
        first += twin > row
        assert not block.dirty[twin].any()
        assert block.values["updated_at"][row] < block.values["updated_at"][twin]
        assert block.values["customer_id"][row] == block.values["customer_id"][twin]
        conflict = [n for c, n in enumerate(block.names) if block.dirty[row, c] and n != "updated_at"]
        assert len(conflict) >= 1
        assert all(block.values[name][row] != block.values[name][twin] for name in conflict)
    assert 0.4 < first / len(copies) < 0.6, "the right version comes first half the time"
    assert block.repairable[block.dirty].all()


def test_a_second_version_holds_what_the_first_one_lost(commerce: RecordSource) -> None:
    specs = ({"fault": "conflicting-duplicate", "when": "rate(0.3)"}, {"fault": "missing-field", "when": "rate(0.2)"})
    block = MessyRecords(commerce, "customer", plan(*specs)).block(0, N)
    gone = block.fault == 2
    twin = np.zeros(len(block), dtype=np.int64)
    for row in range(len(block)):
        before = row > 0 and block.record[row - 1] == block.record[row]
        after = row + 1 < len(block) and block.record[row + 1] == block.record[row]
        twin[row] = row - 1 if before else row + 1 if after else row
    has_twin = twin != np.arange(len(block))
    assert (block.repairable[gone] == np.broadcast_to(has_twin[:, None], gone.shape)[gone]).all()
    for column, name in enumerate(block.names):
        rows = (gone[:, column] & has_twin).nonzero()[0]
        assert (block.values[name][twin[rows]] == block.clean[name][rows]).all()


def test_derived_amounts_follow_from_the_rest() -> None:
    source = RecordSource("insurance", seed=5)
    block = one(source, "claim", "missing-field", "rate(0.2) & (on('*.total') | on('*.claimed') | on('*.expenses'))")
    total, claimed, expenses = (block.names.index(n) for n in ("total", "claimed", "expenses"))
    gone = block.dirty[:, total]
    known = ~block.dirty[:, claimed] & ~block.dirty[:, expenses]
    assert (block.repairable[gone, total] == known[gone]).all()
    assert not block.repairable[:, claimed].any()
    for row in (gone & known).nonzero()[0].tolist():
        added = float(block.values["claimed"][row]) + float(block.values["expenses"][row])
        assert f"{added:.2f}" == block.clean["total"][row]


def test_stale_rows_have_older_time_stamps(commerce: RecordSource) -> None:
    block = one(commerce, "customer", "stale-value", "rate(0.2) & on('*.city')")
    before = commerce.text("customer", np.arange(N), ["city"], version=1)["city"]
    found = cells(block, "city")
    assert sum(value == before[row] for row, value, _ in found) > 0.99 * len(found)
    assert [row for row, *_ in cells(block, "updated_at")] == [row for row, *_ in found]
    assert all(value < clean for _, value, clean in cells(block, "updated_at"))


def test_a_partial_update_stops_somewhere(commerce: RecordSource) -> None:
    when = "rate(0.3) & (on('*.street') | on('*.postcode') | on('*.city'))"
    block = one(commerce, "customer", "partial-update", when)
    place = [block.names.index(name) for name in ("street", "postcode", "city")]
    patterns = np.unique(block.dirty[:, place], axis=0).tolist()
    assert patterns == [[False, False, False], [False, False, True], [False, True, True]]
    low, high = chance_interval(0.3, N)
    assert low < block.dirty[:, place[2]].mean() < high
    assert not block.dirty[:, block.names.index("updated_at")].any(), "the time stamp is that of the update"


def test_what_shows_is_seen_by_a_check(commerce: RecordSource) -> None:
    """Out of range, not on the list, not a date: a check of the format finds what is called visible."""
    block = one(commerce, "customer", "outlier", "rate(0.2) & on('*.signed_up')")
    assert all(not "2018-01-01" <= value <= "2025-06-30" for _, value, _ in cells(block, "signed_up"))
    block = one(commerce, "customer", "typo", "rate(0.2) & on('*.tier')")
    assert not {value for _, value, _ in cells(block, "tier")} & {"standard", "gold", "platinum"}
    assert (block.visible == block.dirty).all()
    block = one(commerce, "customer", "truncated-value", "rate(0.2) & on('*.email')")
    assert not any("." in value.partition("@")[2] for _, value, _ in cells(block, "email"))
    block = one(commerce, "order", "outlier", "rate(0.2) & on('*.total')")
    highest = max(float(value) for value in block.clean["total"])
    assert all(float(value) > highest or float(value) < 0 for _, value, _ in cells(block, "total"))
    for kind, name in (("customer", "signed_up"), ("order", "total"), ("invoice", "iban")):
        block = one(commerce, kind, "malformed-format", f"rate(0.2) & on('*.{name}')")
        shapes = {len(value) for value in block.clean[name]}
        for _, value, _ in cells(block, name):
            assert not (value.replace(".", "", 1).isdigit() and name == "total")
            assert not (len(value) in shapes and value.replace("-", "").isalnum() and value[4] == "-")


# ---------------------------------------------------------------- mechanisms


def rates_by_quarter(dirty: NDArray[np.bool_], by: NDArray[np.float64]) -> list[float]:
    """Share of dirty cells in the four quarters of another quantity."""
    order = np.argsort(by, kind="stable")
    return [float(dirty[part].mean()) for part in np.array_split(order, 4)]


def gaps(source: RecordSource, when: str) -> tuple[list[float], list[float]]:
    """Rates of missing tiers ... by the order's total, and by the shipping fee itself."""
    block = one(source, "order", "missing-field", f"{when} & on('order.shipping')")
    dirty = block.dirty[:, block.names.index("shipping")]
    total, own = (block.clean[name].astype(np.float64) for name in ("total", "shipping"))
    return rates_by_quarter(dirty, total), rates_by_quarter(dirty, own)


def test_completely_at_random(commerce: RecordSource) -> None:
    low, high = chance_interval(0.2, N // 4)
    by_total, by_itself = gaps(commerce, "rate(0.2)")
    assert all(low < rate < high for rate in (*by_total, *by_itself))


def test_at_random_depends_on_another_field(commerce: RecordSource) -> None:
    by_total, by_itself = gaps(commerce, "depends('total', 0.0, 0.4)")
    for rate, wanted in zip(by_total, (0.05, 0.15, 0.25, 0.35), strict=True):
        low, high = chance_interval(wanted, N // 4)
        assert low - 0.01 < rate < high + 0.01  # ranks come from a sample of the records
    assert by_itself[3] - by_itself[0] < 0.1, "the fee is a small part of the total"


def test_not_at_random_depends_on_the_value(commerce: RecordSource) -> None:
    _, by_itself = gaps(commerce, "own_value(0.4, 0.0)")
    for rate, wanted in zip(by_itself, (0.35, 0.25, 0.15, 0.05), strict=True):
        low, high = chance_interval(wanted, N // 4)
        assert low - 0.01 < rate < high + 0.01


def test_conditions_on_numbers_of_the_record(commerce: RecordSource) -> None:
    block = one(commerce, "order", "missing-field", "when(total > 200) & on('order.status')")
    dirty = block.dirty[:, block.names.index("status")]
    assert (dirty == (block.clean["total"].astype(np.float64) > 200)).all()
    assert dirty.any()


def test_bad_records_are_bad_for_every_fault(commerce: RecordSource) -> None:
    specs = [
        {"fault": f, "when": "bad_records(p=0.1, share=0.2)"} for f in ("missing-field", "malformed-format", "typo")
    ]
    together = MessyRecords(commerce, "customer", plan(*specs)).block(0, N).dirty.any(axis=1)
    low, high = chance_interval(0.2, N)
    assert together.mean() < high
    assert together.mean() > 0.95 * low, "with ten fields almost every bad record has a dirty one"


# ---------------------------------------------------------------- errors


def test_what_does_not_fit_is_refused(commerce: RecordSource) -> None:
    with pytest.raises(RecordError, match=r"no profile 'dirty'; allowed: clean, production, hostile"):
        MessyRecords(commerce, "order", "dirty")
    with pytest.raises(RecordError, match=r"no kind 'orders' \(did you mean 'order'\?\)"):
        MessyRecords(commerce, "orders")
    with pytest.raises(RecordError, match="effects on records only; one needs calls"):
        MessyRecords(commerce, "order", plan({"fault": "timeout", "when": "rate(1)"}))
    with pytest.raises(FaultError, match=r"on\('ordr.\*'\) matches no field"):
        MessyRecords(commerce, "order", plan({"fault": "typo", "when": "on('ordr.*')"}))
    with pytest.raises(FaultError, match="intensity"):
        MessyRecords(commerce, "order", "production", intensity=-1)
