"""What effects on records may know about the fields of a schema, and the check of its fault plans."""

from __future__ import annotations

from ..errors import RecordError
from ..faults import FaultPlan, FieldFacts, Fields, FieldType, Services
from . import record_schema as rs

REFERENCE_ROWS = 2048
"""Records in the sample that ranks and ranges are taken from."""

TYPE_OF: dict[str, FieldType] = {
    "key": FieldType.KEY, "email": FieldType.EMAIL, "phone": FieldType.PHONE, "date": FieldType.DATE,
    "stamp": FieldType.STAMP, "amount": FieldType.AMOUNT, "integer": FieldType.INTEGER, "choice": FieldType.CHOICE,
    "code": FieldType.CODE, "reference": FieldType.REFERENCE, "sum": FieldType.AMOUNT, "product": FieldType.AMOUNT,
}  # fmt: skip


def field_type(schema: rs.RecordSchema, kind: str, name: str) -> FieldType:
    """Return what a field holds; a copy holds what its original does."""
    field = schema.kinds[kind].fields[name]
    if isinstance(field, rs.CopyField):
        return field_type(schema, *field.of.split("."))
    return TYPE_OF.get(field.type, FieldType.TEXT)


def facts_of(schema: rs.RecordSchema, kind: str, name: str, span: tuple[float, float] | None = None) -> FieldFacts:
    """Return the facts about a field; ``span`` is its least and greatest value in use."""
    fields = schema.kinds[kind].fields
    field = fields[name]
    # what is mixed up with this one is mixed up both ways
    pair = field.pair or next((other for other, spec in fields.items() if spec.pair == name), None)
    original = field
    while isinstance(original, rs.CopyField):
        of_kind, _, of_name = original.of.partition(".")
        original = schema.kinds[of_kind].fields[of_name]
    sources: tuple[str, ...] = ()
    if isinstance(field, rs.CopyField):
        link = schema.kinds[kind].reference_to(field.of.partition(".")[0])
        sources = (link,) if link is not None else ()
    elif isinstance(field, rs.SumField | rs.ProductField | rs.TextField):
        sources = field.needs()
    return FieldFacts(
        kind=kind,
        name=name,
        type=field_type(schema, kind, name),
        required=field.required,
        derived=isinstance(field, rs.CopyField | rs.SumField | rs.ProductField | rs.TextField),
        sources=tuple(dict.fromkeys(sources)),
        pair=pair,
        unit=getattr(field, "unit", None),
        stamp=isinstance(field, rs.StampField),
        low=span[0] if span else 0.0,
        high=span[1] if span else 0.0,
        choices=tuple(original.values) if isinstance(original, rs.ChoiceField) else (),
        decimals=getattr(original, "decimals", 0 if isinstance(original, rs.IntegerField) else 2),
    )


def plan_of(schema: rs.RecordSchema, profile: str) -> tuple[FaultPlan, float]:
    """Return the fault plan of a profile and its intensity factor; as :func:`~.loading.fault_plan`.

    A schema that declares no ``hostile`` profile gets its ``production`` plan at twice the intensity.

    Raises:
        RecordError: if there is no such profile.
    """
    where = str(schema.path or schema.name)
    names = profile_names(schema)
    if profile not in names:
        raise RecordError(f"{where}: no profile {profile!r}; allowed: {', '.join(names)}")
    factor = 1.0
    if profile not in schema.profiles:
        profile, factor = "production", 2.0
    return FaultPlan.from_specs(schema.profiles[profile], f"{where}: profiles.{profile}"), factor


def profile_names(schema: rs.RecordSchema) -> list[str]:
    """The profiles that can be asked for, the implied ``hostile`` included."""
    names = list(schema.profiles)
    return [*names, "hostile"] if "production" in names and "hostile" not in names else names


def number_names(schema: rs.RecordSchema, kind: str) -> list[str]:
    """Names of a kind's number fields, which conditions may read."""
    numbers = (FieldType.AMOUNT, FieldType.INTEGER)
    return [name for name in schema.kinds[kind].fields if field_type(schema, kind, name) in numbers]


def check_profiles(schema: rs.RecordSchema) -> None:
    """Refuse fault plans that do not fit the schema.

    Raises:
        FaultError: naming the profile, the fault, and what is allowed.
    """
    facts = {kind: [facts_of(schema, kind, name) for name in spec.fields] for kind, spec in schema.kinds.items()}
    whole = Fields.of(fact for group in facts.values() for fact in group)
    for profile, specs in schema.profiles.items():
        plan = FaultPlan.from_specs(specs, f"profiles.{profile}")
        plan.check(Services((), ()), {"records"}, fields=whole)
        for kind, group in facts.items():
            # a condition must be about numbers of every kind that its fault can strike
            others = [name for name in whole.names if not name.startswith(f"{kind}.")]
            plan.bind_records(Fields.of(group, others), names=number_names(schema, kind), may_miss=True)
