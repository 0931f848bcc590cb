"""Conditions on the state of a lane, as in ``when(spend_usd > 0.2 and running >= 2)``.

A closed grammar: names, numbers, comparisons (also chained), ``and``, ``or``, ``not``. Nothing is evaluated
as Python.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FaultError

Lookup = Callable[[str], NDArray[np.float64]]
Mask = NDArray[np.bool_]

_COMPARE: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Lt: ("<", np.less),
    ast.LtE: ("<=", np.less_equal),
    ast.Gt: (">", np.greater),
    ast.GtE: (">=", np.greater_equal),
    ast.Eq: ("==", np.equal),
    ast.NotEq: ("!=", np.not_equal),
}
_BY_SIGN = dict(_COMPARE.values())
_ALLOWED = "allowed: names, numbers, comparisons, 'and', 'or', 'not'"


@dataclass(frozen=True)
class Comparison:
    """``left sign right`` where each side is a name or a number."""

    left: str | float
    sign: str
    right: str | float

    def names(self) -> Iterator[str]:
        """Yield the names it reads."""
        yield from (side for side in (self.left, self.right) if isinstance(side, str))

    def test(self, value: Lookup) -> Any:
        """Return whether it holds, elementwise."""
        left = value(self.left) if isinstance(self.left, str) else self.left
        right = value(self.right) if isinstance(self.right, str) else self.right
        return _BY_SIGN[self.sign](left, right)

    def __str__(self) -> str:
        return f"{_show(self.left)} {self.sign} {_show(self.right)}"


@dataclass(frozen=True)
class Junction:
    """``and`` or ``or`` of conditions."""

    word: str
    parts: tuple[Condition, ...]

    def names(self) -> Iterator[str]:
        """Yield the names it reads."""
        for part in self.parts:
            yield from part.names()

    def test(self, value: Lookup) -> Any:
        """Return whether it holds, elementwise."""
        combine = np.logical_and if self.word == "and" else np.logical_or
        result = self.parts[0].test(value)
        for part in self.parts[1:]:
            result = combine(result, part.test(value))
        return result

    def __str__(self) -> str:
        shown = [f"({part})" if isinstance(part, Junction) else str(part) for part in self.parts]
        return f" {self.word} ".join(shown)


@dataclass(frozen=True)
class Negation:
    """``not`` of a condition."""

    part: Condition

    def names(self) -> Iterator[str]:
        """Yield the names it reads."""
        yield from self.part.names()

    def test(self, value: Lookup) -> Any:
        """Return whether it holds, elementwise."""
        return np.logical_not(self.part.test(value))

    def __str__(self) -> str:
        return f"not ({self.part})"


Condition = Comparison | Junction | Negation


class SyntaxProblem(Exception):
    """A part of a trigger that is not in the grammar; the parser adds the column."""

    def __init__(self, node: ast.AST, message: str) -> None:
        super().__init__(message)
        self.node = node


DEEPEST = 200


def read_expression(text: str) -> ast.expr:
    """Parse one expression into a syntax tree that is not too deep to walk.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: as ``ast.parse``.
        SyntaxProblem: at the first node nested too deeply.
    """
    body = ast.parse(text, mode="eval").body
    level: list[ast.AST] = [body]
    for _ in range(DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise SyntaxProblem(level[0], f"nested too deeply; allowed: {DEEPEST} levels")
    return body


def parse_condition(text: str) -> Condition:
    """Parse the text of a condition.

    Raises:
        FaultError: with the column of what is not allowed.
    """
    try:
        return condition_from(read_expression(text.strip()))
    except SyntaxProblem as problem:
        column = getattr(problem.node, "col_offset", 0) + 1
        raise FaultError(f"condition {text!r}, column {column}: {problem}") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        column = getattr(error, "offset", None) or len(text.strip()) + 1
        raise FaultError(f"condition {text!r}, column {column}: not a condition; {_ALLOWED}") from None


def condition_from(node: ast.expr) -> Condition:
    """Turn a syntax tree into a condition.

    Raises:
        SyntaxProblem: at the first node that is not in the grammar.
    """
    if isinstance(node, ast.BoolOp):
        word = "and" if isinstance(node.op, ast.And) else "or"
        return Junction(word, tuple(condition_from(part) for part in node.values))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return Negation(condition_from(node.operand))
    if isinstance(node, ast.Compare):
        sides = [_side(side) for side in (node.left, *node.comparators)]
        links: list[Condition] = []
        for index, operator in enumerate(node.ops):
            if type(operator) not in _COMPARE:
                raise SyntaxProblem(node, f"this comparison is not allowed; allowed: {', '.join(_BY_SIGN)}")
            links.append(Comparison(sides[index], _COMPARE[type(operator)][0], sides[index + 1]))
        return links[0] if len(links) == 1 else Junction("and", tuple(links))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
        raise SyntaxProblem(node, "inside when(...) write 'and' and 'or', not '&' and '|'")
    if isinstance(node, ast.Name | ast.Constant):
        raise SyntaxProblem(node, "a condition compares something, as in 'spend_usd > 0.2'")
    raise SyntaxProblem(node, f"not allowed in a condition; {_ALLOWED}")


def _side(node: ast.expr) -> str | float:
    if isinstance(node, ast.Name):
        return node.id
    number = number_from(node)
    if number is None:
        raise SyntaxProblem(node, "each side of a comparison is a name or a number")
    return float(number)


def number_from(node: ast.expr) -> int | float | None:
    """Return the finite number a node stands for, or None."""
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        sign = -1 if isinstance(node.op, ast.USub) else 1
        node = node.operand
    if not isinstance(node, ast.Constant):
        return None
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return sign * value if math.isfinite(value) else None
    except OverflowError:
        return None


def _show(side: str | float) -> str:
    return side if isinstance(side, str) else f"{side:.17g}"
