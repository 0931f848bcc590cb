"""An agent that assumes the worst: it checks values, writes under keys, reads back, repairs, asks, and hands over.

    brownout stress examples/agents/careful.py:handle --scenario refund

It knows nothing of a particular workflow: records, steps and their arguments come from the task and the tools. What it
believes of a field comes, in this order, from what the requester has changed, what they have said, what they wrote in
the request, and what stands in the record.
"""

from __future__ import annotations

import re
from typing import Any

from brownout import ToolSession

ATTEMPTS = 8
ROUNDS = 5
EMAIL = re.compile(r"[\w.%+'-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
ODD = re.compile("[\ufffd\u00c3\u00c2\u00ef\ufeff]|^(N/A|n/a|-|\\?|NULL|none|TBD|unknown)$|^\\s|\\s$|^'|,-$")


class Stuck(Exception):
    """There is no way forward for a machine."""


def handle(session: ToolSession) -> None:
    """Work through the task of any workflow, and make sure of it."""
    Careful(session).work()


class Careful:
    """One task at work."""

    def __init__(self, session: ToolSession) -> None:
        self.session = session
        self.task = session.task
        self.steps: list[dict[str, Any]] = session.task["procedure"]
        self.fields = {argument: field for step in self.steps for argument, field in step["needs"].items()}
        self.getters = {tool.name.partition(".get_")[2]: tool.name for tool in session.tools if ".get_" in tool.name}
        self.records: dict[str, dict[str, Any]] = {}
        self.tags: dict[str, Any] = {}
        self.said: dict[str, Any] = dict(session.task["details"])
        self.asked: set[str] = set()
        self.wishes: dict[tuple[str, str], Any] = {}
        self.renamed: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, Any] = {}
        self.keys = 0

    # ---------------------------------------------------------------- the work

    def work(self) -> None:
        """Do everything, look at it again, and finish; hand over what cannot be done."""
        try:
            for record in self.getters:
                self.read(record)
            self.ask([a for a in self.fields if a not in self.said])
            for _ in range(ROUNDS):
                for step in self.steps:
                    if self.wanted(step):
                        self.carry_out(step)
                if self.settled():
                    self.session.call("finish", summary="done and checked")
                    return
            raise Stuck("it does not settle")
        except Stuck as reason:
            if self.session.call("handoff", reason=str(reason)).status == 404:
                self.session.call("abort", reason=str(reason))

    def wanted(self, step: dict[str, Any]) -> bool:
        """Whether the decisions call for a step."""
        return all(self.facts.get(name) == value for name, value in step.get("only_if", {}).items())

    def carry_out(self, step: dict[str, Any]) -> None:
        """Carry out a step, so that it stands once and right."""
        if not step["writes"]:
            self.look_up(step)
            return
        key = self.new_key(step)
        for _ in range(ROUNDS):
            entries = self.standing(step)
            wrong = [entry for entry in entries if not self.is_right(step, entry)]
            right = [entry for entry in entries if self.is_right(step, entry)]
            for entry in [*wrong, *right[1:]]:
                self.undo(step, entry)
            if wrong:
                key = self.new_key(step)
            if right:
                self.await_approval(step, right[0])
                return
            self.write(step, key)
            self.hear()
        raise Stuck(f"{step['step']} cannot be brought about")

    def settled(self) -> bool:
        """Whether all that stands is as it should be, after a last look at records and messages."""
        for record in self.getters:
            self.read(record)
        self.hear()
        for step in self.steps:
            if step["writes"]:
                entries = self.standing(step)
                good = [entry for entry in entries if self.is_right(step, entry)]
                if len(entries) != len(good) or len(good) != int(self.wanted(step)):
                    for entry in entries if not self.wanted(step) else ():
                        self.undo(step, entry)
                    return False
        return True

    # ---------------------------------------------------------------- steps

    def look_up(self, step: dict[str, Any]) -> None:
        """Run a step that only reads; its answer must be about the records of the task."""
        for _ in range(ROUNDS):
            answer = self.call(step["tool"], step, **self.arguments(step))
            found = self.body(answer)
            if found and self.is_mine(found):
                self.facts |= {name: value for name, value in found.items() if isinstance(value, bool)}
                return
            if found:
                self.reset()
                self.ask(list(step["needs"]))
        raise Stuck(f"{step['step']} finds somebody else")

    def write(self, step: dict[str, Any], key: str) -> None:
        """Make the call that writes, once; what became of it is seen by reading back."""
        options: dict[str, Any] = {}
        records = {field.partition(".")[0] for field in step["needs"].values()}
        tags = [self.tags[record] for record in sorted(records) if record in self.tags]
        if tags:
            options["if_match"] = ", ".join(tags)
        if "idempotency_key" in self.properties(step["tool"]):
            options["idempotency_key"] = key
        self.call(step["tool"], step, once=True, **self.arguments(step), **options)

    def arguments(self, step: dict[str, Any]) -> dict[str, Any]:
        """What a step should be called with."""
        values = {argument: self.value(argument, step["step"]) for argument in step["needs"]}
        doubtful = [argument for argument, value in values.items() if not sound(argument, value)]
        if doubtful:
            self.ask(doubtful)
            values = {argument: self.value(argument, step["step"]) for argument in step["needs"]}
            if any(not sound(argument, value) for argument, value in values.items()):
                raise Stuck(f"nobody knows {', '.join(doubtful)}")
        return values

    def value(self, argument: str, step: str) -> Any:
        """What a field should be, as far as is known."""
        if (step, argument) in self.wishes:
            return self.wishes[step, argument]
        if argument in self.said:
            return self.said[argument]
        record, _, name = self.fields[argument].partition(".")
        return self.records.get(record, {}).get(name)

    def is_right(self, step: dict[str, Any], entry: dict[str, Any]) -> bool:
        """Whether an effect is what it should be."""
        names = self.renamed.get(step["tool"].partition(".")[0], {})
        values = {a: entry.get(names.get(a, a), entry.get(a)) for a in step["needs"]}
        wished = {a: v for (name, a), v in self.wishes.items() if name == step["step"]}
        usual = {a: self.value(a, "") for a in step["needs"]}
        if not self.is_mine(entry):
            return False
        return all(alike(values[a], wished.get(a, usual[a])) for a in step["needs"])

    def is_mine(self, found: dict[str, Any]) -> bool:
        """Whether an answer is about the records of the task."""
        return all(found.get(f"{record}_id", self.task[f"{record}_id"]) == self.task[f"{record}_id"]
                   for record in self.getters)  # fmt: skip

    def standing(self, step: dict[str, Any]) -> list[dict[str, Any]]:
        """All that a step has done and stands."""
        tool, cursor = self.tool(step, "list_"), ""
        entries: list[dict[str, Any]] = []
        for _ in range(20):
            answer = self.call(tool, step, **({"cursor": cursor} if cursor else {}))
            found = self.body(answer)
            entries += found.get("items", [])
            cursor = found.get("next_cursor")
            if not cursor:
                break
        return entries

    def undo(self, step: dict[str, Any], entry: dict[str, Any]) -> None:
        """Take an effect back, if that can be done; another call may still set it right."""
        try:
            tool = self.tool(step, "undo_")
        except Stuck:
            if "the same state" in self.description(step["tool"]) and self.wanted(step):
                return
            raise
        self.call(tool, step, once=True, effect_id=entry["id"])

    def await_approval(self, step: dict[str, Any], entry: dict[str, Any]) -> None:
        """Wait until an effect is no longer pending."""
        for _ in range(40):
            if entry.get("status") != "pending":
                return
            self.wait(30.0)
            entry = next((e for e in self.standing(step) if e["id"] == entry["id"]), {})
        raise Stuck(f"{step['step']} is not approved")

    # ---------------------------------------------------------------- records and the requester

    def read(self, record: str) -> None:
        """Read a record of the task, and what has been asked for since."""
        for _ in range(ROUNDS):
            answer = self.call(self.getters[record], None, id=self.task[f"{record}_id"])
            found = self.body(answer)
            if found.get("id") != self.task[f"{record}_id"]:
                self.reset()
                continue
            mine = {field.partition(".")[2]: argument for argument, field in self.fields.items()
                    if field.partition(".")[0] == record}  # fmt: skip
            service = self.getters[record].partition(".")[0]
            names = self.renamed.get(service, {})
            values = {
                name: found.get(name, found.get(names.get(argument, camel(argument))))
                for name, argument in mine.items()
            }
            before = self.records.get(record)
            for name, argument in mine.items():
                moved = before is not None and answer.headers.get("ETag") != self.tags.get(record)
                if moved and before and values[name] != before[name] and sound(argument, values[name]):
                    self.said[argument] = values[name]  # changed since, so what was said before is out of date
            self.records[record] = values
            self.tags[record] = answer.headers.get("ETag", "")
            for change in found.get("amendments", []):
                self.wishes[change["for"], change["field"]] = change["value"]
            return
        raise Stuck(f"{record} cannot be read")

    def ask(self, arguments: list[str]) -> None:
        """Ask the requester about fields they have not been asked about, four at a time."""
        rest = [argument for argument in arguments if argument not in self.asked]
        while rest and "requester.ask" in {tool.name for tool in self.session.tools}:
            some, rest = rest[:4], rest[4:]
            found = self.body(self.session.call("requester.ask", about=", ".join(some)))
            self.asked |= set(some)
            self.said |= found.get("values", {})
            for change in found.get("changes", []):
                self.wishes[change["for"], change["field"]] = change["value"]

    def hear(self) -> None:
        """Read the requester's messages."""
        for message in self.body(self.session.call("requester.messages")).get("items", []):
            self.wishes[message["for"], message["field"]] = message["value"]

    # ---------------------------------------------------------------- calls

    def call(self, tool: str, step: dict[str, Any] | None, once: bool = False, **arguments: Any) -> Any:
        """Call a tool until it answers; a write that may have been done is not repeated (``once``)."""
        answer = None
        for attempt in range(ATTEMPTS):
            if self.session.done:
                raise Stuck("it is over")
            names = self.renamed.get(tool.partition(".")[0], {})
            answer = self.session.call(tool, **{names.get(a, a): value for a, value in arguments.items()})
            if answer.ok and (self.body(answer) or once):
                return answer
            if answer.status == 403:
                raise Stuck(f"{tool} is not allowed")
            if answer.status == 401:
                self.session.call("auth.token")
            elif answer.status == 412:
                self.reread(step)
                return answer
            elif answer.status == 409 and step is not None:
                self.reset()
                self.reread(step)
                self.wait(5.0)
                if once:
                    return answer
            elif answer.status == 422:
                self.amend(answer, arguments)
                if step is not None:
                    fresh = self.arguments(step)
                    arguments |= {a: fresh[a] for a in arguments if a in fresh}
            elif answer.status in (423, 429, 503):
                self.wait(answer.retry_after_s or 2.0 * 2**attempt)
            elif once and (answer.status == 0 or answer.status >= 500 or answer.ok):
                return answer
            else:
                self.wait(2.0 * 2 ** min(attempt, 4))
        if once:
            return answer
        raise Stuck(f"{tool} does not work")

    def reread(self, step: dict[str, Any] | None) -> None:
        """Read the records of a step again."""
        for record in {field.partition(".")[0] for field in (step or {"needs": {}})["needs"].values()}:
            self.read(record)

    def amend(self, answer: Any, arguments: dict[str, Any]) -> None:
        """Find out what is wrong with arguments: new names, or values that must be asked for."""
        places = [
            detail["loc"][-1] for detail in self.body(answer, any_status=True).get("error", {}).get("details", [])
        ]
        unknown = [place for place in places if place in arguments]
        if any(place not in self.fields and place not in arguments for place in places):
            self.reset()
        else:
            self.ask([argument for argument in unknown if argument in self.fields])

    def reset(self) -> None:
        """Set up the session anew; learn what services have renamed."""
        for change in self.body(self.session.call("session.reset")).get("interface_changes", []):
            self.renamed[change["service"]] = change["renamed"]

    def wait(self, seconds: float) -> None:
        """Wait."""
        self.session.call("clock.wait", seconds=seconds)

    def body(self, answer: Any, any_status: bool = False) -> dict[str, Any]:
        """The body of an answer, if it can be read."""
        try:
            found = answer.json() if answer.ok or any_status else {}
        except ValueError:
            found = {}
        return found if isinstance(found, dict) else {}

    # ---------------------------------------------------------------- tools

    def tool(self, step: dict[str, Any], prefix: str) -> str:
        """The tool beside that of a step: ``list_`` or ``undo_``."""
        service, _, name = step["tool"].partition(".")
        found = [tool.name for tool in self.session.tools if tool.name.startswith(f"{service}.{prefix}{name}")]
        if not found:
            raise Stuck(f"{step['step']} cannot be taken back")
        return min(found, key=len)

    def properties(self, name: str) -> dict[str, Any]:
        """The arguments of a tool."""
        return next(tool.parameters["properties"] for tool in self.session.tools if tool.name == name)

    def description(self, name: str) -> str:
        """What a tool says of itself."""
        return next(tool.description for tool in self.session.tools if tool.name == name)

    def new_key(self, step: dict[str, Any]) -> str:
        """A key under which a write may be repeated."""
        self.keys += 1
        return f"{step['step']}-{self.keys}-{self.task['access_token'][:8]}"


def sound(argument: str, value: Any) -> bool:
    """Whether a value looks like one: what any check of the format would say."""
    if value is None or value == "":
        return False
    if isinstance(value, int | float):
        return 0 <= value < 100_000
    if ODD.search(value):
        return False
    if argument.endswith("email"):
        return EMAIL.fullmatch(value) is not None
    if argument.endswith(("date", "until", "since", "valid_from")):
        return re.fullmatch(r"20[0-5]\d-\d\d-\d\d", value) is not None
    if argument.endswith(("account", "iban")) and value[:2].isalpha():
        moved = value[4:] + value[:4]
        return moved.isalnum() and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1
    if len(value) == 16 and value.isdigit():
        doubled = [int(c) * (2 - i % 2) for i, c in enumerate(value)]
        return sum(n - 9 * (n > 9) for n in doubled) % 10 == 0
    # what should be a number and came as text could not be read as one
    return not argument.endswith(("total", "amount", "limit", "quantity"))


def alike(one: Any, other: Any) -> bool:
    """Whether two values mean the same."""
    try:
        return abs(float(one) - float(other)) < 0.005
    except (TypeError, ValueError):
        return str(one).strip().casefold() == str(other).strip().casefold()


def camel(name: str) -> str:
    """``customer_email`` as ``customerEmail``."""
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
