"""The effects on records: what each marks and writes, by hand; and how a plan selects cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from brownout.errors import FaultError
from brownout.faults import (
    CellDraw,
    Cells,
    CellText,
    FaultPlan,
    FieldFacts,
    Fields,
    FieldType,
    RecordEffect,
    Services,
    Struck,
    lookup,
    register_fault,
    registered_faults,
    unregister_fault,
)
from brownout.faults import records as effects
from faults_support import SERVICES, chance_interval
from records_support import AT, FACTS, FIELDS, StubDraw, bound_records, keys_of, selected, struck, text_of, texts

NAMES = (
    "missing-field", "malformed-format", "typo", "conflicting-duplicate", "stale-value", "swapped-fields",
    "wrong-unit", "encoding-damage", "truncated-value", "outlier", "partial-update",
)  # fmt: skip
EVERYTHING = [{"fault": name, "when": "rate(0.08)"} for name in NAMES]


def marks(cells: Struck, flag: str) -> dict[str, bool]:
    """The dirty fields of record 0, with a flag of each."""
    grid = cells.cells
    return {name.removeprefix("person."): bool(getattr(grid, flag)[0, c]) for name, c in AT.items() if grid.dirt[0, c]}


# ---------------------------------------------------------------- what each effect marks


def test_missing_field_shows_where_it_is_required() -> None:
    cells = selected(["person.first", "person.phone"])
    effects.MissingField().strike(cells, StubDraw())
    assert marks(cells, "visible") == {"first": True, "phone": False}
    assert marks(cells, "repairable") == {"first": False, "phone": False}
    cells = selected(["person.phone"])
    effects.MissingField(style="placeholder").strike(cells, StubDraw())
    assert marks(cells, "visible") == {"phone": True}


def test_malformed_format_shows_and_loses_nothing() -> None:
    cells = selected(["person.born", "person.credit"])
    effects.MalformedFormat().strike(cells, StubDraw())
    assert marks(cells, "visible") == marks(cells, "repairable") == {"born": True, "credit": True}


def test_typo_shows_in_codes_and_choices_only() -> None:
    cells = selected(["person.first", "person.currency", "person.iban"])
    effects.Typo().strike(cells, StubDraw())
    assert marks(cells, "visible") == {"first": False, "currency": True, "iban": True}
    assert marks(cells, "repairable") == {"first": False, "currency": True, "iban": False}


def test_conflicting_duplicate_disagrees_in_one_field_at_least() -> None:
    cells = selected(["person.first", "person.email", "person.credit"])
    # no field by chance (0.9 >= 0.3); 0.5 * 3 picks the second one
    effects.ConflictingDuplicate(conflict=0.3).strike(cells, StubDraw([0.9, 0.9, 0.9], [0.5, 0.5, 0.5]))
    assert marks(cells, "visible") == {"email": True, "updated": True}
    assert marks(cells, "repairable") == {"email": True, "updated": True}
    assert cells.cells.copied.tolist() == [[True, False]]
    cells = selected(["order.net"])
    effects.ConflictingDuplicate().strike(cells, StubDraw([0.1], [0.5]))
    assert cells.cells.dirt[0].nonzero()[0].tolist() == [AT["order.net"]]  # orders have no time stamp ...
    assert not cells.cells.repairable.any()  # ... so nothing says which version is right


def test_stale_value_sets_the_time_stamp_back() -> None:
    cells = selected(["person.first"])
    effects.StaleValue().strike(cells, StubDraw())
    assert marks(cells, "visible") == marks(cells, "repairable") == {"first": False, "updated": False}


def test_swapped_fields_touches_both() -> None:
    cells = selected(["person.first"])
    effects.SwappedFields().strike(cells, StubDraw())
    assert marks(cells, "visible") == {"first": False, "last": False}
    assert marks(cells, "repairable") == {"first": True, "last": True}
    cells = selected(["person.first"])
    cells.cells.dirt[0, AT["person.last"]] = 9
    effects.SwappedFields().strike(cells, StubDraw())
    assert cells.cells.dirt[0, AT["person.first"]] == 0, "the partner is dirty already"


def test_swapped_fields_of_different_types_show() -> None:
    fields = Fields.of([FieldFacts("a", "x", pair="y"), FieldFacts("a", "y", FieldType.DATE, pair="x")])
    cells = Struck(Cells.clean(fields, 1), 1, np.array([0]), np.array([0]))
    effects.SwappedFields().strike(cells, StubDraw())
    assert cells.cells.visible.tolist() == [[True, True]]


def test_wrong_unit_names_the_unit_used() -> None:
    cells = selected(["person.credit"])
    effects.WrongUnit().strike(cells, StubDraw())
    assert marks(cells, "visible") == marks(cells, "repairable") == {"credit": True, "currency": True}
    cells = selected(["order.net"])
    effects.WrongUnit().strike(cells, StubDraw())
    assert cells.cells.dirt[0].nonzero()[0].tolist() == [AT["order.net"]]
    assert not cells.cells.visible.any()
    assert not cells.cells.repairable.any()


def test_encoding_damage_can_be_decoded_unless_letters_are_lost() -> None:
    cells = selected(["person.first", "person.last"])
    effects.EncodingDamage(lossy=0.5).strike(cells, StubDraw([0.4, 0.6]))
    assert marks(cells, "visible") == {"first": True, "last": True}
    assert marks(cells, "repairable") == {"first": False, "last": True}


def test_truncated_value_shows_in_all_but_free_text() -> None:
    cells = selected(["person.first", "person.email"])
    effects.TruncatedValue().strike(cells, StubDraw())
    assert marks(cells, "visible") == {"first": False, "email": True}
    assert marks(cells, "repairable") == {"first": False, "email": False}


def test_outlier_shows() -> None:
    cells = selected(["person.credit", "person.born"])
    effects.Outlier().strike(cells, StubDraw())
    assert marks(cells, "visible") == {"credit": True, "born": True}
    assert marks(cells, "repairable") == {"credit": False, "born": False}


@pytest.mark.parametrize(("u", "left"), [(0.0, ["last", "email"]), (0.4, ["last", "email"]), (0.6, ["email"])])
def test_partial_update_leaves_the_rest_as_it_was(u: float, left: list[str]) -> None:
    cells = selected(["person.first", "person.last", "person.email"])
    # written fields: 1 + floor(u * 2)
    effects.PartialUpdate().strike(cells, StubDraw([u] * 3))
    assert list(marks(cells, "visible")) == left
    assert not any(marks(cells, "visible").values())
    assert not any(marks(cells, "repairable").values())


def test_partial_update_needs_two_fields_of_one_record() -> None:
    cells = selected(["person.first", "order.net", "person.first"], [0, 0, 1], n=2)
    effects.PartialUpdate().strike(cells, StubDraw([0.0] * 3))
    assert not cells.cells.dirt.any()


# ---------------------------------------------------------------- what each effect writes


@dataclass(frozen=True)
class Case:
    """A clean value, the draws, and the damaged value worked out by hand."""

    effect: RecordEffect
    field: str
    clean: str
    draws: tuple[float, ...]
    damaged: str | None
    earlier: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()


CASES = [
    Case(effects.MissingField(), "person.first", "Ann", (), None),
    Case(effects.MissingField(style="placeholder"), "person.first", "Ann", (0.26,), "-"),  # place 2 of 8
    Case(effects.MalformedFormat(), "person.born", "2024-03-05", (0.0,), "5 Mar 2024"),
    Case(effects.MalformedFormat(), "person.born", "2024-03-05", (0.3,), "20240305"),
    Case(effects.MalformedFormat(), "person.born", "2024-03-05", (0.99,), "05-Mar-24"),
    Case(effects.MalformedFormat(), "person.credit", "1234.50", (0.0,), "1.234,50"),
    Case(effects.MalformedFormat(), "person.credit", "-1234567.50", (0.99,), "-1 234 567,50"),
    Case(effects.MalformedFormat(), "person.points", "17", (0.0,), "17.0"),
    Case(effects.MalformedFormat(), "person.email", "ann@example.org", (0.0,), "ann at example.org"),
    Case(effects.MalformedFormat(), "person.phone", "+49-30-123", (0.0,), "004930123"),
    Case(effects.MalformedFormat(), "person.iban", "DE8937", (0.0,), "DE89 37"),
    Case(effects.MalformedFormat(), "person.updated", "2024-03-05T10:00:00Z", (0.0,), "2024-03-05 10:00:00"),
    Case(effects.Typo(), "person.first", "Anna", (0.3, 0.0, 0.0), "Abna"),  # the key left of n
    Case(effects.Typo(), "person.first", "Anna", (0.0, 0.3, 0.0), "AAnna"),  # twice
    Case(effects.Typo(), "person.first", "Anna", (0.0, 0.6, 0.0), "nAna"),  # exchanged
    Case(effects.Typo(), "person.first", "Anna", (0.0, 0.9, 0.0), "nna"),  # missing
    Case(effects.Typo(), "person.phone", "+49", (0.0, 0.5, 0.0), "+59"),  # (4 + 1 + 0) mod 10
    Case(effects.Typo(), "person.iban", "DE89", (0.9, 0.5, 0.99), "DE88"),  # (9 + 1 + 8) mod 10
    Case(effects.Typo(), "person.email", "bo@example.org", (0.6, 0.9, 0.0), "boo@example.org"),
    Case(effects.Typo(), "person.currency", "USD", (0.0, 0.9, 0.0), "SD"),
    Case(effects.ConflictingDuplicate(), "person.first", "Ann", (0.5,), "Bob", ("Bob",)),
    Case(effects.ConflictingDuplicate(), "person.first", "Ann", (0.5,), "Cid", ("Ann", "Ann", "Cid")),
    # half of 400 days before; 2024 is a leap year
    Case(effects.ConflictingDuplicate(), "person.updated", "2024-07-19T10:00:00Z", (0.5,), "2024-01-01T10:00:00Z"),
    Case(effects.StaleValue(), "person.credit", "12.50", (0.5,), "9.99", ("9.99",)),
    Case(effects.StaleValue(older_days=10), "person.updated", "2024-01-10T00:00:00Z", (0.1,), "2024-01-09T00:00:00Z"),
    Case(effects.StaleValue(), "person.currency", "USD", (0.5,), "EUR", ("USD",) * 4),  # the only other choice
    Case(effects.SwappedFields(), "person.first", "Ann", (), "Smith", (), (("last", "Smith"),)),
    Case(effects.SwappedFields(), "person.first", "Ann", (), "Annn", (), (("last", "Ann"),)),  # equal: a slip
    Case(effects.WrongUnit(), "order.net", "12.50", (0.5,), "1250.00"),
    Case(effects.WrongUnit(factor=0.001), "order.net", "1250.00", (0.5,), "1.25"),
    Case(effects.WrongUnit(), "person.credit", "100.00", (0.5,), "92.0000", (), (("currency", "USD"),)),
    Case(effects.WrongUnit(), "person.credit", "92.00", (0.5,), "100.0000", (), (("currency", "EUR"),)),
    Case(effects.WrongUnit(), "person.currency", "USD", (0.5,), "EUR"),
    Case(effects.EncodingDamage(), "person.last", "Müller", (0.5,), "MÃ¼ller"),
    Case(effects.EncodingDamage(), "person.last", "De Vries", (0.5,), "DeÂ\xa0Vries"),
    Case(effects.EncodingDamage(), "person.last", "Smith", (0.5,), "ï»¿Smith"),
    Case(effects.EncodingDamage(lossy=0.6), "person.last", "Müller", (0.5,), "M\ufffdller"),
    Case(effects.EncodingDamage(lossy=0.6), "person.last", "Smith", (0.5,), "\ufffdmith"),
    Case(effects.TruncatedValue(keep=0.5), "person.last", "Anderson", (0.0,), "Ande"),
    Case(effects.TruncatedValue(keep=0.5), "person.last", "Anderson", (0.99,), "Anderso"),
    Case(effects.TruncatedValue(), "person.email", "ann@example.org", (0.99,), "ann@example"),
    Case(effects.TruncatedValue(), "person.last", "Ng", (0.0,), "N"),
    Case(effects.TruncatedValue(), "person.last", "O", (0.0,), "OO"),  # nothing to cut: a slip
    Case(effects.Outlier(), "person.credit", "20.00", (0.0, 0.5), "5000.00"),  # 10 * the greatest in use
    Case(effects.Outlier(), "person.credit", "20.00", (0.3, 0.1), "-10000.00"),
    Case(effects.Outlier(factor=3), "person.points", "50", (0.0, 0.5), "270"),
    Case(effects.Outlier(), "person.born", "1980-02-03", (0.3,), "9999-12-31"),
    Case(effects.PartialUpdate(), "person.email", "a@example.org", (0.5,), "b@example.org", ("b@example.org",)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.effect.name}-{case.field}-{case.clean}")
def test_the_damaged_value_is_the_one_worked_out_by_hand(case: Case) -> None:
    text = text_of(case.field, [[value] for value in case.earlier], **{name: [value] for name, value in case.others})
    draw = StubDraw(*([u] for u in case.draws))
    found = case.effect.corrupt(texts(case.clean), draw, text)
    if found[0] == case.clean:  # the plan makes equal cells differ
        from brownout.faults.record_text import nudged

        found = texts(nudged(case.clean, text.facts))
    assert found.tolist() == [case.damaged]


def test_every_effect_has_cases() -> None:
    assert {case.effect.name for case in CASES} == set(NAMES)
    ours = {
        n for n, c in registered_faults().items() if issubclass(c, RecordEffect) and c.__module__.startswith("brown")
    }
    assert ours == set(NAMES)


def strikes(name: str, facts: FieldFacts) -> bool:
    cls = lookup(name)
    assert issubclass(cls, RecordEffect)
    return facts.type in cls.allowed_fields and (name != "swapped-fields" or facts.pair is not None)


@pytest.mark.parametrize(("name", "field"), [(n, f.path) for n in NAMES for f in FACTS if strikes(n, f)])
def test_a_struck_cell_always_differs(name: str, field: str) -> None:
    """Whatever the value, even where the effect has nothing to work with."""
    facts = FACTS[AT[field]]
    samples = {
        FieldType.EMAIL: "a@example.org", FieldType.PHONE: "+1-2", FieldType.DATE: "1900-01-01",
        FieldType.STAMP: "2024-01-01T00:00:00Z", FieldType.AMOUNT: "0.00", FieldType.INTEGER: "0",
        FieldType.CHOICE: "USD", FieldType.KEY: "P-1", FieldType.REFERENCE: "P-1", FieldType.CODE: "DE12",
    }  # fmt: skip
    clean = samples.get(facts.type, "東")
    bound = bound_records(
        [{"fault": name, "when": f"rate(1) & on('{field}*')" if name != "partial-update" else "rate(1)"}]
    )
    values = texts(*[clean] * 200)
    text = CellText(
        facts,
        lambda version: values.copy(),
        lambda other: texts(*["USD" if other == "currency" else clean] * 200),
        FIELDS,
    )
    found = bound.spoil(1, values, keys_of(200), AT[field], text)
    assert not (found == values).any()


# ---------------------------------------------------------------- how a plan selects cells


def test_the_first_fault_of_the_plan_wins() -> None:
    always = [{"fault": "typo", "when": "on('person.first')"}, {"fault": "missing-field", "when": "on('person.first')"}]
    assert set(struck(always).dirt[:, AT["person.first"]].tolist()) == {1}
    assert set(struck(always[::-1]).dirt[:, AT["person.first"]].tolist()) == {1}
    assert bound_records(always[::-1]).effect_names == ("missing-field", "typo")


def test_second_versions_are_made_before_all_else_and_help_to_repair() -> None:
    specs = [
        {"fault": "missing-field", "when": "on('person.first') | on('person.last')"},
        {"fault": "conflicting-duplicate", "conflict": 1, "when": "rate(0.5) & on('person.first')"},
    ]
    cells = struck(specs)
    copied = cells.copied[:, 0]
    assert 0.4 < copied.mean() < 0.6
    first, last = AT["person.first"], AT["person.last"]
    assert (cells.dirt[:, first] == np.where(copied, 2, 1)).all()
    assert (cells.dirt[:, last] == 1).all()
    assert (cells.repairable[:, last] == copied).all(), "the other version holds the last name"


def test_a_conflict_without_time_stamps_stays_open() -> None:
    specs = [
        {"fault": "conflicting-duplicate", "when": "rate(0.5) & on('order.net')"},
        {"fault": "missing-field", "when": "on('order.person')"},
    ]
    cells = struck(specs)
    assert (cells.dirt[:, AT["order.net"]] == 1).mean() > 0.4
    assert not cells.repairable[:, AT["order.net"]].any(), "two versions, and nothing says which is right"
    assert (cells.repairable[:, AT["order.person"]] == cells.copied[:, 1]).all()


def test_derived_fields_can_be_repaired_while_their_sources_can() -> None:
    cells = struck([{"fault": "missing-field", "when": "rate(0.5) & on('order.*')"}])
    net, tax = cells.dirt[:, AT["order.net"]] != 0, cells.dirt[:, AT["order.tax"]] != 0
    assert (cells.repairable[:, AT["order.tax"]] == (tax & ~net)).all()
    assert (net & tax).any()


def test_a_cell_depends_on_its_record_alone() -> None:
    whole = struck(EVERYTHING)
    bound, keys = bound_records(EVERYTHING), keys_of(4000)
    rows = np.array([3999, 17, 2, 1040])
    some = Cells.clean(FIELDS, 4, number=rows)
    bound.strike(some, keys[rows])
    for name in ("dirt", "visible", "repairable", "copied"):
        assert (getattr(some, name) == getattr(whole, name)[rows]).all(), name


def test_another_fault_moves_no_draw() -> None:
    """Where nothing else struck, a fault strikes the same cells with and without the others."""
    whole = struck(EVERYTHING)
    for index, spec in enumerate(EVERYTHING, 1):
        alone = struck([spec])
        assert ((whole.dirt == index) <= (alone.dirt == 1)).all(), spec
        free = (whole.dirt == 0).all(axis=1)
        assert not alone.dirt[free].any(), spec


def test_rates_are_kept() -> None:
    n = 20_000
    for name, field in (("typo", "person.first"), ("outlier", "person.born"), ("malformed-format", "person.iban")):
        cells = struck([{"fault": name, "when": f"rate(0.2) & on('{field}')"}], n)
        low, high = chance_interval(0.2, n)
        assert low < (cells.dirt[:, AT[field]] != 0).mean() < high
        assert (cells.dirt != 0).sum() == (cells.dirt[:, AT[field]] != 0).sum()


def test_intensity_scales_and_zero_is_nothing() -> None:
    specs = [{"fault": "typo", "when": "rate(0.1) & on('person.first')"}]
    n = 20_000
    for intensity in (0.5, 2.0):
        low, high = chance_interval(0.1 * intensity, n)
        assert low < (struck(specs, n, intensity).dirt != 0).sum() / n < high
    assert FaultPlan.from_specs(specs).bind_records(FIELDS, 0.0) is None
    assert FaultPlan.from_specs([]).bind_records(FIELDS) is None
    for wrong in (-1.0, float("nan"), True, "2"):
        with pytest.raises(FaultError, match=r"intensity = .* is not allowed"):
            FaultPlan.from_specs(specs).bind_records(FIELDS, wrong)  # type: ignore[arg-type]


def test_sticky_takes_all_fields_of_a_record_or_none() -> None:
    cells = struck([{"fault": "missing-field", "when": "sticky(0.3) & on('person.*')"}], 5000)
    dirty = cells.dirt[:, 1:11] != 0
    assert set(dirty.sum(axis=1).tolist()) == {0, 10}
    low, high = chance_interval(0.3, 5000)
    assert low < dirty[:, 0].mean() < high


def test_bad_records_hold_all_the_dirt_of_every_fault() -> None:
    specs = [
        {"fault": "missing-field", "when": "bad_records(p=0.1, share=0.2) & on('person.first')"},
        {"fault": "typo", "when": "bad_records(p=0.1, share=0.2) & on('person.last')"},
    ]
    cells = struck(specs, 20_000)
    first, last = cells.dirt[:, AT["person.first"]] != 0, cells.dirt[:, AT["person.last"]] != 0
    for struck_ in (first, last):
        low, high = chance_interval(0.1, 20_000)
        assert low < struck_.mean() < high
    # independent within the bad fifth: 0.2 * 0.5 * 0.5, five times what independent records would show
    low, high = chance_interval(0.05, 20_000)
    assert low < (first & last).mean() < high
    more = struck(specs, 20_000, intensity=4.0)
    low, high = chance_interval(0.4, 20_000)
    assert low < (more.dirt[:, AT["person.first"]] != 0).mean() < high


def level_cells(n: int) -> Cells:
    ranks = np.arange(n) / n
    return Cells.clean(FIELDS, n, levels=lambda column: ranks if column == AT["person.credit"] else 1.0 - ranks)


@pytest.mark.parametrize(
    ("when", "low_end", "high_end"),
    [
        ("depends('credit', 0.0, 0.4) & on('person.first')", 0.05, 0.35),
        ("depends('person.credit', 0.4, 0.0) & on('person.first')", 0.35, 0.05),
        ("depends('points', 0.0, 0.4) & on('person.first')", 0.35, 0.05),
        ("own_value(0.0, 0.4) & on('person.credit')", 0.05, 0.35),
        ("rate(0.2) & on('person.first')", 0.2, 0.2),
    ],
)
def test_mechanisms_follow_ranks(when: str, low_end: float, high_end: float) -> None:
    """At random, not at random, completely at random: the rate in the lowest and in the highest quarter."""
    n = 40_000
    cells = level_cells(n)
    bound_records([{"fault": "missing-field", "when": when}]).strike(cells, keys_of(n))
    dirty = (cells.dirt != 0).any(axis=1)
    for part, rate in ((dirty[: n // 4], low_end), (dirty[-n // 4 :], high_end)):
        low, high = chance_interval(rate, n // 4)
        assert low < part.mean() < high


def test_conditions_read_the_record() -> None:
    class Credit:
        names = ("credit",)

        def value(self, name: str, lanes: Any) -> Any:
            return lanes.astype(np.float64)

    cells = Cells.clean(FIELDS, 100, world=Credit())
    bound = bound_records(
        [{"fault": "missing-field", "when": "when(credit >= 90) & on('person.first')"}], names=["credit"]
    )
    bound.strike(cells, keys_of(100))
    assert (cells.dirt != 0).any(axis=1).nonzero()[0].tolist() == list(range(90, 100))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"fault": "typo", "when": "on('person.nmae')"}, r"plan\[0\] \(typo\): on\('person.nmae'\) matches no field"),
        ({"fault": "typo", "when": "on('person.born')"}, "it can strike no field.*it acts on text, email"),
        ({"fault": "typo", "when": "after(3)"}, "records have no clock"),
        ({"fault": "typo", "when": "burst(3, 4)"}, "records have no clock"),
        ({"fault": "typo", "when": "when(speed > 2)"}, "'speed' is not a known quantity"),
        ({"fault": "typo", "when": "depends('speed', 0, 1)"}, "'speed' is not a field"),
        ({"fault": "typo"}, "needs a field 'when'"),
        ({"fault": "partial-update", "when": "on('person.first')"}, "it can strike no field"),
        ({"fault": "missing-field", "style": "blank", "when": "always"}, "style = 'blank' is not allowed"),
        ({"fault": "wrong-unit", "factor": 1, "when": "always"}, "it changes nothing"),
        ({"fault": "truncated-value", "keep": 1, "when": "always"}, "keep = 1.* is not allowed"),
        ({"fault": "outlier", "factor": 1, "when": "always"}, "factor = 1.* is not allowed"),
        ({"fault": "typo", "when": "bad_records(p=0.3, share=0.2)"}, "must be at most share"),
        ({"fault": "typo", "when": "own_value(0, 2)"}, "high = 2 is not allowed"),
    ],
)
def test_bad_plans_are_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(FaultError, match=message):
        bound_records([spec])


def test_a_fault_may_miss_the_fields_of_other_kinds() -> None:
    only = Fields.of([FieldFacts("person", "first")], elsewhere=["order.net"])
    plan = FaultPlan.from_specs([{"fault": "outlier", "when": "on('order.net')"}, {"fault": "typo", "when": "rate(1)"}])
    with pytest.raises(FaultError, match="it can strike no field"):
        plan.bind_records(only)
    bound = plan.bind_records(only, may_miss=True)
    assert bound is not None
    assert bound.effect_names == ("typo",)


def test_calls_and_records_keep_to_themselves() -> None:
    records = FaultPlan.from_specs([{"fault": "typo", "when": "rate(0.1)"}])
    with pytest.raises(FaultError, match=r"\(typo\): needs the port records, which this environment does not offer"):
        records.check(SERVICES, {"calls", "portfolio"})
    assert records.bind(SERVICES, {"records"}) is None, "nothing in it strikes calls"
    calls = FaultPlan.from_specs([{"fault": "timeout", "when": "own_value(0, 1)"}])
    with pytest.raises(FaultError, match="this trigger is about fields of records"):
        calls.check(SERVICES, {"calls"})
    assert calls.bind_records(FIELDS) is None
    both = FaultPlan.from_specs([{"fault": "timeout", "when": "rate(1)"}, {"fault": "typo", "when": "rate(1)"}])
    bound = both.bind(Services(("crm",), ("a",)), {"calls", "records"})
    assert bound is not None
    assert bound.fault_ids == ("timeout#0",)
    both.check(SERVICES, {"calls", "records"}, fields=FIELDS)


def test_an_effect_of_ones_own() -> None:
    @register_fault("shouting")
    @dataclass(frozen=True)
    class Shouting(RecordEffect):
        """Everything is in capitals."""

        def strike(self, cells: Struck, draw: CellDraw) -> None:
            cells.mark(where=draw.chance(0.5))

        def corrupt(self, values: Any, draw: CellDraw, text: CellText) -> Any:
            return texts(*[value.upper() for value in values])

    @register_fault("broken")
    @dataclass(frozen=True)
    class Broken(RecordEffect):
        """Raises."""

        def strike(self, cells: Struck, draw: CellDraw) -> None:
            raise KeyError("oops")

        def corrupt(self, values: Any, draw: CellDraw, text: CellText) -> Any:
            return "nonsense"

    try:
        bound = bound_records([{"fault": "shouting", "when": "on('person.first')"}])
        cells = Cells.clean(FIELDS, 1000)
        bound.strike(cells, keys_of(1000))
        assert 400 < (cells.dirt[:, AT["person.first"]] == 1).sum() < 600
        found = bound.spoil(1, texts("Ann", "BOB"), keys_of(2), AT["person.first"], text_of("person.first"))
        assert found[0] == "ANN"
        assert found[1] != "BOB", "what came out equal is changed"
        broken = bound_records([{"fault": "broken", "when": "on('person.first')"}])
        with pytest.raises(FaultError, match=r"plan\[0\] \(broken, id broken#0\): strike raised KeyError"):
            broken.strike(Cells.clean(FIELDS, 3), keys_of(3))
        with pytest.raises(FaultError, match="corrupt returned 'nonsense'; it must be 1 texts or None"):
            broken.spoil(1, texts("Ann"), keys_of(1), AT["person.first"], text_of("person.first"))
    finally:
        unregister_fault("shouting")
        unregister_fault("broken")


def test_fields_refuse_what_is_not_there() -> None:
    with pytest.raises(FaultError, match="'z' is not a field of a; allowed: x"):
        Fields.of([FieldFacts("a", "x", pair="z")])
    with pytest.raises(FaultError, match="must differ"):
        Fields.of([FieldFacts("a", "x"), FieldFacts("a", "x")])
