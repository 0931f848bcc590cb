"""The schema of workflow scenarios: records, services, reasoners, steps, decisions and the goal.

A workflow is a set of steps that depend on each other. A step reads fields of records and asks a service to do
something; some steps write. A decision is a fact that one step finds out and on which later steps depend, so a
workflow can branch. The goal is that every write that the facts call for stands exactly once.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from ..faults import FieldFacts, Fields, FieldType, Services, Verb
from .distributions import Distribution
from .schema import MovingShare, Name, NonNegative, Person, Positive, Probability, Scenario, _no_flag, _none, _Part
from .workflow_records import case_schema, check_field, field_word

SIDE_SERVICES = ("cheap", "strong", "auth", "requester", "person")
_VERBS = {
    "cheap": (Verb.VALIDATE, Verb.REPAIR),
    "strong": (Verb.VALIDATE, Verb.REPAIR),
    "auth": (Verb.REFRESH, Verb.RESYNC),
    "requester": (Verb.CLARIFY,),
    "person": (Verb.ESCALATE,),
}
_BUSINESS = (Verb.FETCH, Verb.CALL, Verb.VERIFY, Verb.COMPENSATE)
_RESERVED = (*SIDE_SERVICES, *(verb.word for verb in Verb))
MOST_STEPS, MOST_FIELDS, MOST_NEEDS = 24, 64, 15

FieldKind = Literal[
    "text", "email", "phone", "date", "stamp", "amount", "integer", "choice", "key", "reference", "code"
]

FieldSpec = Annotated[FieldKind | dict[str, Any], BeforeValidator(check_field)]


class RecordKind(_Part):
    """A kind of record, of which an episode binds one: the customer, the order."""

    service: Name = Field(description="the service that holds it")
    fields: dict[Name, FieldSpec] = Field(
        min_length=1, description="what each field holds: a word, or a field in the language of record schemas"
    )
    pairs: list[tuple[Name, Name]] = Field([], description="fields that get mixed up with each other, two by two")

    def partner(self, field: str) -> str | None:
        """The field that ``field`` gets mixed up with."""
        return next((other for pair in self.pairs for one, other in (pair, pair[::-1]) if one == field), None)


class Service(_Part):
    """A system of record behind an interface."""

    family: Name = Field("internal", description="provider; families share outages and rate limits")
    latency_s: Distribution = Field(default=0.2, validate_default=True, description="seconds per call")
    cost_usd: Distribution = Field(default=0.0, validate_default=True, description="USD per call")
    strict: Probability = Field(
        0.6, description="share of wrong arguments (422) and outdated versions (409) that it refuses"
    )
    auth: bool = Field(True, description="whether calls need the token")


class Reasoner(_Part):
    """A language model that writes arguments, checks fields and repairs them."""

    family: Name = Field("default", description="provider; families share outages and rate limits")
    latency_s: Distribution = Field(description="seconds per call")
    cost_usd: Distribution = Field(description="USD per call with an empty context")
    detect: Probability = Field(description="chance to see that a field is wrong where no format check can")
    mend: Probability = Field(description="chance to repair a field whose clean value can still be found")
    slip: Probability = Field(description="chance to write wrong arguments from right fields")
    obey: Probability = Field(description="chance to follow an instruction hidden in a record")
    false_alarm: Probability = Field(0.02, description="chance to call a clean field wrong")


class Token(_Part):
    """Where the token comes from; ``refresh`` and ``resync`` are calls to ``auth``."""

    family: Name = Field("auth", description="provider")
    ttl_s: Positive = Field(3600.0, description="life of a fresh token, seconds")
    latency_s: Distribution = Field(default=0.3, validate_default=True, description="seconds per refresh or resync")
    cost_usd: Distribution = Field(default=0.0, validate_default=True, description="USD per refresh or resync")


class Session(_Part):
    """The agent's context: it grows with every call and makes reasoners dearer and less careful."""

    growth: Probability = Field(0.01, description="share of the context window that a call fills")
    surcharge: NonNegative = Field(1.0, description="price of a full context, as a share on top of the price")
    confusion: Probability = Field(0.2, description="chance that a full context adds to every slip")


class Requester(_Part):
    """Whoever asked for the work, and can be asked back by ``clarify``."""

    knows: Probability = Field(0.9, description="chance to know the right value of a field")
    patience: Annotated[int, Field(ge=0, le=16), BeforeValidator(_no_flag)] = Field(
        2, description="questions that are answered in one episode"
    )
    latency_s: Distribution = Field(default=45.0, validate_default=True, description="seconds per question")
    cost_usd: Distribution = Field(default=0.05, validate_default=True, description="USD per question")


class Decision(_Part):
    """A fact that is found out by a step and that later steps depend on."""

    by: Name = Field(description="the step that finds it out")
    share: Probability = Field(description="share of episodes in which it holds")
    drift: MovingShare | None = Field(
        None, description="the share moves with the episode; null leaves it", exclude_if=_none
    )


class Step(_Part):
    """One step of the workflow."""

    service: Name = Field(description="the service it calls")
    needs: list[str] = Field([], description="fields it reads, as record.field or record.*")
    after: list[Name] = Field([], description="steps that come first")
    writes: bool = Field(False, description="whether it changes the world")
    idempotency: Literal["key", "natural", "none"] = Field(
        "none",
        description="what a repetition does: key: nothing, as long as the agent still has the key; natural: sets the "
        "same state again; none: the effect is there twice",
    )
    compensable: bool = Field(False, description="whether it can be undone")
    approval_s: Distribution | None = Field(None, description="seconds until an accepted call takes effect")
    when: Name | None = Field(None, description="decision that must hold")
    unless: Name | None = Field(None, description="decision that must not hold")


class History(_Part):
    """What happened before the agent came."""

    begun: Probability = Field(0.0, description="share of episodes in which earlier work has done part of the steps")


class WorkflowScenario(Scenario):
    """A scenario of the workflow environment."""

    ports: ClassVar[frozenset[str]] = frozenset({"calls", "session", "workflow", "records"})
    # what when(...) in a trigger may read
    quantities: ClassVar[tuple[str, ...]] = (
        "clock_s", "spend_usd", "step", "episode", "calls", "done", "unknown", "in_flight", "context",
    )  # fmt: skip

    env: Literal["workflow"] = "workflow"  # pyright: ignore[reportIncompatibleVariableOverride]
    records: dict[Name, RecordKind] = Field(min_length=1)
    services: dict[Name, Service] = Field(min_length=1)
    reasoners: dict[Literal["cheap", "strong"], Reasoner]
    token: Token = Token()  # pyright: ignore[reportCallIssue]
    session: Session = Session()  # pyright: ignore[reportCallIssue]
    requester: Requester | None = Requester()  # pyright: ignore[reportCallIssue]
    person: Person | None = Person()
    history: History = History()  # pyright: ignore[reportCallIssue]
    decisions: dict[Name, Decision] = Field(default_factory=dict)
    steps: dict[Name, Step] = Field(min_length=1, max_length=MOST_STEPS)
    goal: list[Name] | None = Field(None, description="writes that must stand; default: all that the decisions allow")

    @model_validator(mode="after")
    def _fits_together(self) -> WorkflowScenario:
        if set(self.reasoners) != {"cheap", "strong"}:
            raise ValueError(f"reasoners: must name cheap and strong, got {', '.join(self.reasoners)}")
        for name in self.services:
            if name in _RESERVED:
                raise ValueError(f"services.{name}: this name is reserved; not allowed: {', '.join(_RESERVED)}")
        for name, kind in self.records.items():
            _known(f"records.{name}.service", kind.service, self.services)
            paired = [field for pair in kind.pairs for field in pair]
            for field in paired:
                _known(f"records.{name}.pairs", field, kind.fields)
                if paired.count(field) > 1:
                    raise ValueError(f"records.{name}.pairs: {field!r} is there twice; a field has one partner")
        if sum(len(kind.fields) for kind in self.records.values()) > MOST_FIELDS:
            raise ValueError(f"records: more than {MOST_FIELDS} fields in all")
        if any(not isinstance(spec, str) for kind in self.records.values() for spec in kind.fields.values()):
            case_schema(self.name, self.field_specs)
        ancestors = self.ancestors
        for name, step in self.steps.items():
            self._check_step(name, step, ancestors[name])
        for name, decision in self.decisions.items():
            _known(f"decisions.{name}.by", decision.by, self.steps)
            if self.steps[decision.by].writes:
                raise ValueError(
                    f"decisions.{name}.by: {decision.by!r} writes; a decision comes from a step that reads"
                )
        for name in self.goal or ():
            _known("goal", name, self.steps)
            if not self.steps[name].writes:
                raise ValueError(f"goal: {name!r} does not write; allowed: steps with writes: true")
        if self.limits.on_budget == "mask":
            raise ValueError("limits.on_budget: got 'mask'; allowed in a workflow: end, soft")
        if not self.goal_steps:
            raise ValueError("steps: none of them writes, so there is nothing to achieve")
        return self

    def _check_step(self, name: str, step: Step, ancestors: set[str]) -> None:
        where = f"steps.{name}"
        _known(f"{where}.service", step.service, self.services)
        for need in step.needs:
            record, _, field = need.partition(".")
            _known(f"{where}.needs", record, self.records)
            if field != "*":
                _known(f"{where}.needs: {record}", field, self.records[record].fields)
        if len(self.needed_fields(name)) > MOST_NEEDS:
            raise ValueError(f"{where}.needs: more than {MOST_NEEDS} fields; split the step")
        for other in step.after:
            _known(f"{where}.after", other, self.steps)
        if step.when and step.unless:
            raise ValueError(f"{where}: give when or unless, not both")
        condition = step.when or step.unless
        if condition is not None:
            _known(f"{where}.when", condition, self.decisions)
            if self.decisions[condition].by not in ancestors:
                raise ValueError(
                    f"{where}: depends on {condition!r}, which {self.decisions[condition].by!r} finds out; "
                    "so it must come after that step"
                )
        if not step.writes and (step.idempotency != "none" or step.compensable or step.approval_s is not None):
            raise ValueError(f"{where}: idempotency, compensable and approval_s are for steps with writes: true")

    @property
    def moves_over(self) -> list[int]:
        """Over how many episodes the share of each decision moves that does."""
        return [decision.drift.over for decision in self.decisions.values() if decision.drift is not None]

    @property
    def ancestors(self) -> dict[str, set[str]]:
        """For each step all steps that come before it.

        Raises:
            ValueError: if the steps wait for each other in a circle.
        """
        found: dict[str, set[str]] = {}

        def visit(name: str, trail: tuple[str, ...]) -> set[str]:
            if name in trail:
                raise ValueError(f"steps.{name}.after: leads back to itself: {' -> '.join((*trail, name))}")
            if name not in found:
                before = set(self.steps[name].after) & set(self.steps)
                found[name] = before.union(*(visit(other, (*trail, name)) for other in before))
            return found[name]

        for name in self.steps:
            visit(name, ())
        return found

    @property
    def goal_steps(self) -> tuple[str, ...]:
        """The writes that must stand at the end, as far as their decisions allow."""
        wanted = [name for name, step in self.steps.items() if step.writes] if self.goal is None else self.goal
        return tuple(wanted)

    @property
    def field_specs(self) -> dict[str, dict[str, Any]]:
        """What the fields of each record hold, as the scenario says it."""
        return {record: dict(kind.fields) for record, kind in self.records.items()}

    @property
    def field_names(self) -> tuple[str, ...]:
        """Every field of every record as ``record.field``, in order."""
        return tuple(f"{record}.{field}" for record, kind in self.records.items() for field in kind.fields)

    def needed_fields(self, name: str) -> tuple[str, ...]:
        """The fields that a step reads, ``record.*`` written out."""
        found: dict[str, None] = {}
        for need in self.steps[name].needs:
            record, _, field = need.partition(".")
            fields = self.records[record].fields if field == "*" else (field,)
            found.update(dict.fromkeys(f"{record}.{f}" for f in fields))
        return tuple(found)

    def fault_fields(self) -> Fields:
        """The fields of records that a fault plan can strike, in the order of :attr:`field_names`."""
        return Fields.of(
            FieldFacts(
                record,
                field,
                FieldType.parse(field_word(spec)),
                pair=kind.partner(field),
                stamp=field_word(spec) == "stamp",
            )
            for record, kind in self.records.items()
            for field, spec in kind.fields.items()
        )

    def fault_services(self) -> Services:
        """The services that a fault plan can strike: the business services, then the five at the side."""
        own = self.services
        families = (
            *(service.family for service in own.values()),
            self.reasoners["cheap"].family, self.reasoners["strong"].family, self.token.family, "requester", "person",
        )  # fmt: skip
        verbs = (*(_BUSINESS for _ in own), *(_VERBS[name] for name in SIDE_SERVICES))
        return Services((*own, *SIDE_SERVICES), families, verbs)


def _known(where: str, name: str, allowed: object) -> None:
    names = list(allowed)  # pyright: ignore[reportArgumentType]
    if name not in names:
        raise ValueError(f"{where}: got {name!r}; allowed: {', '.join(names)}")
