"""Numbers that move in the course of a training, written as text in a closed grammar.

=============  ======================  ==========================================================
form           example                 meaning
=============  ======================  ==========================================================
constant       ``0.8``                 0.8 all the time
linear         ``0:1@0.5``             from 0 to 1 over the first half of the steps, 1 from then on
several lines  ``0:0.5@0.3:1@0.8``     to 0.5 at 30 %, then to 1 at 80 % of the steps
steps          ``0/0.5@0.3/1@0.6``     0, from 30 % on 0.5, from 60 % on 1
=============  ======================  ==========================================================

As data, a schedule is a number, such a text, or ``{linear: [[0, 0], [0.5, 1]]}`` or ``{steps: [[0, 0], [0.3, 1]]}``:
pairs of the share of the steps made and the value from there on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..errors import PolicyError

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_FIRST = re.compile(_NUMBER)
_NEXT = re.compile(rf"([:/]){_NUMBER}@{_NUMBER}")
_FORMS = "write a number, 0:1@0.5 (linear until that share of the steps) or 0/0.5@0.3/1@0.6 (steps)"


@dataclass(frozen=True)
class Schedule:
    """A piecewise linear or piecewise constant function of the share of the steps made.

    Args:
        points: pairs of share and value; the first share is 0, and they increase.
        steps: whether values jump at the shares rather than move towards them.
    """

    points: tuple[tuple[float, float], ...]
    steps: bool = False

    @classmethod
    def parse(cls, value: Any) -> Schedule:
        """Read a schedule from a number, a text or plain data.

        Raises:
            PolicyError: naming the value and what is allowed.

        >>> str(Schedule.parse({"linear": [[0, 0.25], [0.6, 1.5]]}))
        '0.25:1.5@0.6'
        >>> Schedule.parse("0/0.5@0.3/1@0.6").at(0.45)
        0.5
        """
        if isinstance(value, Schedule):
            return value
        if isinstance(value, str):
            return cls._read(value.replace(" ", ""))
        if isinstance(value, Mapping):
            return cls._of(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return cls(((0.0, float(value)),))
        raise PolicyError(f"got {value!r}; {_FORMS}")

    @classmethod
    def _read(cls, text: str) -> Schedule:
        first = _FIRST.match(text)
        if first is None:
            raise PolicyError(f"got {text!r}; {_FORMS}")
        points, signs, place = [(0.0, float(first[1]))], set[str](), first.end()
        while place < len(text):
            part = _NEXT.match(text, place)
            if part is None:
                raise PolicyError(f"got {text!r}, cannot read {text[place:]!r}; {_FORMS}")
            signs.add(part[1])
            points.append((float(part[3]), float(part[2])))
            place = part.end()
        if len(signs) > 1:
            raise PolicyError(f"got {text!r}, which mixes ':' (linear) and '/' (steps); use one of them")
        return cls._checked(points, signs == {"/"}, text)

    @classmethod
    def _of(cls, data: Mapping[Any, Any]) -> Schedule:
        kind = next(iter(data), None)
        points = data.get(kind)
        pairs = isinstance(points, list | tuple) and all(isinstance(p, list | tuple) and len(p) == 2 for p in points)
        if len(data) != 1 or kind not in ("linear", "steps") or not points or not pairs:
            raise PolicyError(f"got {dict(data)!r}; as data write {{linear: [[0, 0.25], [0.6, 1.5]]}}, or steps")
        numbers = [part for pair in points for part in pair]
        if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
            raise PolicyError(f"got {dict(data)!r}; shares and values must be numbers")
        return cls._checked([(float(share), float(value)) for share, value in points], kind == "steps", dict(data))

    @classmethod
    def _checked(cls, points: list[tuple[float, float]], steps: bool, given: Any) -> Schedule:
        shares = [share for share, _ in points]
        rising = all(a < b for a, b in pairwise(shares))
        if shares[0] != 0.0 or not rising or shares[-1] > 1.0:
            raise PolicyError(f"got {given!r}; shares of the steps must rise from 0 to at most 1, got {shares}")
        return cls(tuple(points), steps and len(points) > 1)

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value."""
        values = [value for _, value in self.points]
        return min(values), max(values)

    def at(self, share: float) -> float:
        """Return the value when ``share`` of the steps have been made.

        >>> Schedule.parse("0.25:1.5@0.6").at(0.3)
        0.875
        """
        last = max(i for i, (start, _) in enumerate(self.points) if start <= max(share, 0.0))
        start, value = self.points[last]
        if self.steps or last + 1 == len(self.points):
            return value
        end, target = self.points[last + 1]
        return value + (target - value) * (share - start) / (end - start)

    def __str__(self) -> str:
        sign = "/" if self.steps else ":"
        rest = [f"{sign}{value:.12g}@{share:.12g}" for share, value in self.points[1:]]
        return f"{self.points[0][1]:.12g}{''.join(rest)}"
