"""The text form of triggers: ``rate(0.03) & on('frontier')``, parsed into a closed grammar.

Names of registered triggers with constant arguments, ``&``, ``|``, ``~`` and parentheses; inside
``when(...)`` a condition. The text is never evaluated.
"""

from __future__ import annotations

import ast
from dataclasses import MISSING, Field, fields
from typing import Any

from ..errors import FaultError
from .compose import And, Not, Or, Trigger, known_triggers
from .predicate import SyntaxProblem, condition_from, number_from, read_expression
from .registry import suggest
from .triggers import When

LONGEST = 2000
_HOW = "combine triggers such as rate(0.03) or on('name') with &, | and ~"


def parse_trigger(text: str) -> Trigger:
    """Parse the text form of a trigger.

    Raises:
        FaultError: with the text, the column (from 1) of what is wrong, and what is allowed there.
    """
    if not isinstance(text, str) or not text.strip():
        raise FaultError(f"trigger {text!r} is empty; {_HOW}")
    if len(text) > LONGEST:
        raise FaultError(f"trigger of {len(text)} characters is too long; allowed: {LONGEST}")
    # One line for the parser, every character in its place.
    line = "".join(" " if character in "\t\r\n\f\v" else character for character in text)
    indent = len(line) - len(line.lstrip())
    try:
        return _trigger(read_expression(line.strip()))
    except SyntaxProblem as problem:
        before = line.strip().encode()[: getattr(problem.node, "col_offset", 0)].decode(errors="replace")
        raise FaultError(f"trigger {text!r}, column {indent + len(before) + 1}: {problem}") from None
    except SyntaxError as error:
        column = indent + (error.offset or len(line.strip()) + 1)
        raise FaultError(f"trigger {text!r}, column {column}: {error.msg}; {_HOW}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, FaultError):
            raise
        raise FaultError(f"trigger {text!r}, column 1: cannot be read; {_HOW}") from None


def _trigger(node: ast.expr) -> Trigger:
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.BitAnd):
            return And(_trigger(node.left), _trigger(node.right))
        if isinstance(node.op, ast.BitOr):
            return Or(_trigger(node.left), _trigger(node.right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
        return Not(_trigger(node.operand))
    if isinstance(node, ast.BoolOp):
        signs = {"And": "&", "Or": "|"}
        raise SyntaxProblem(node, f"join triggers with {signs[type(node.op).__name__]!r}, not with words")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        raise SyntaxProblem(node, "negate a trigger with '~', not with 'not'")
    if isinstance(node, ast.Compare):
        raise SyntaxProblem(node, "a comparison belongs inside when(...), as in when(spend_usd > 0.2)")
    if isinstance(node, ast.Name):
        return _leaf(node, node.id, [], [])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _leaf(node, node.func.id, node.args, node.keywords)
    raise SyntaxProblem(node, f"not allowed in a trigger; {_HOW}")


def _leaf(node: ast.expr, name: str, positional: list[ast.expr], keywords: list[ast.keyword]) -> Trigger:
    known = known_triggers()
    cls = known.get(name)
    if cls is None:
        raise SyntaxProblem(node, f"unknown trigger {name!r}{suggest(name, known)}")
    slots = [slot for slot in fields(cls) if slot.init]  # pyright: ignore[reportArgumentType]
    usage = f"{name}({', '.join(slot.name for slot in slots)})"
    if cls is When:
        if len(positional) != 1 or keywords:
            raise SyntaxProblem(node, "when(...) takes one condition, as in when(spend_usd > 0.2)")
        return When(condition_from(positional[0]))
    if len(positional) > len(slots):
        raise SyntaxProblem(positional[len(slots)], f"too many arguments; usage: {usage}")
    given: dict[str, Any] = {slot.name: _argument(value, slot) for slot, value in zip(slots, positional, strict=False)}
    by_name = {slot.name: slot for slot in slots}
    for keyword in keywords:
        if keyword.arg is None or keyword.arg not in by_name:
            raise SyntaxProblem(keyword, f"unknown argument {keyword.arg or '**'!r}; usage: {usage}")
        if keyword.arg in given:
            raise SyntaxProblem(keyword, f"argument {keyword.arg!r} is given twice; usage: {usage}")
        given[keyword.arg] = _argument(keyword.value, by_name[keyword.arg])
    missing = [slot.name for slot in slots if slot.name not in given and not _has_default(slot)]
    if missing:
        raise SyntaxProblem(node, f"missing argument {', '.join(missing)}; usage: {usage}")
    try:
        return cls(**given)
    except FaultError as error:
        raise SyntaxProblem(node, f"{name}: {error}") from None


def _has_default(slot: Field[Any]) -> bool:
    return slot.default is not MISSING or slot.default_factory is not MISSING


def _argument(node: ast.expr, slot: Field[Any]) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        value: Any = node.value
    else:
        value = number_from(node)
    if value is None:
        raise SyntaxProblem(node, f"argument {slot.name!r} must be a number or a quoted name")
    wants_text = slot.type in ("str", str)
    if wants_text != isinstance(value, str):
        wanted = "a quoted name" if wants_text else "a number"
        raise SyntaxProblem(node, f"argument {slot.name!r} must be {wanted}")
    return value
