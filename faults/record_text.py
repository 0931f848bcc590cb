"""How a value gets damaged, character by character: the text side of the effects on records.

Every function takes ``(m,)`` object arrays of non-empty strings and uniforms in [0, 1), and returns an object
array of the same shape. A cell's result depends on that cell alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .calls import F64, Mask
from .cells import FieldFacts, FieldType

Texts = NDArray[np.object_]

PLACEHOLDERS: Final = ("N/A", "n/a", "-", "?", "NULL", "none", "TBD", "unknown")

_KEYS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STRANGE_DATES: Final = ("1900-01-01", "9999-12-31", "0001-01-01", "1970-01-01", "2099-12-31")
_FACTORS: Final = (1, 2, 5, 10, 100)

# How much of each unit equals one of the first of its group; currencies are rounded yearly means.
_UNITS: Final = (
    {"USD": 1.0, "EUR": 0.92, "GBP": 0.79, "CHF": 0.88, "JPY": 150.0, "CAD": 1.36, "AUD": 1.52, "SEK": 10.5,
     "INR": 83.0, "BRL": 5.1, "MXN": 17.5, "PLN": 4.0, "CNY": 7.2},
    {"kg": 1.0, "g": 1000.0, "lb": 2.20462, "oz": 35.274},
    {"m": 1.0, "cm": 100.0, "mm": 1000.0, "ft": 3.28084, "in": 39.3701, "km": 0.001, "mi": 0.000621371},
    {"h": 1.0, "min": 60.0, "s": 3600.0, "days": 1 / 24},
    {"C": 1.0},
)  # fmt: skip


def _each(function: Callable[..., Any], *arrays: NDArray[Any]) -> Texts:
    found = np.empty(arrays[0].size, dtype=object)
    found[:] = [function(*cell) for cell in zip(*(array.tolist() for array in arrays), strict=True)]
    return found


def _pick(options: Sequence[Any], u: float) -> Any:
    return options[min(int(u * len(options)), len(options) - 1)]


def chosen(options: Sequence[str], u: F64) -> Texts:
    """Return one of ``options`` per cell."""
    return _each(lambda x: _pick(options, x), u)


# ---------------------------------------------------------------- other forms


def reformatted(values: Texts, type_: FieldType, u: F64) -> Texts:
    """Write each value in another form from which it can be read back."""
    return _each(_FORMS.get(type_, _reference_form), values, u)


def _date_form(value: str, u: float) -> str:
    year, month, day = value.split("-")
    name = _MONTHS[int(month) - 1]
    forms = (f"{int(day)} {name} {year}", f"{year}{month}{day}", f"{year}/{int(month)}/{int(day)}",
             f"{name} {int(day)}, {year}", f"{int(day):02d}-{name}-{year[2:]}")  # fmt: skip
    return str(_pick(forms, u))


def _stamp_form(value: str, u: float) -> str:
    day, _, time = value.rstrip("Z").partition("T")
    forms = (f"{day} {time}", f"{_date_form(day, 0.0)} {time} UTC", f"{day}T{time}.000+00:00")
    return str(_pick(forms, u))


def _amount_form(value: str, u: float) -> str:
    whole, point, cents = value.partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    grouped = f"{int(digits or 0):,}"
    if not point:
        forms = (f"{value},-", f"'{value}", f"{sign}{grouped}.-")
    else:
        forms = (f"{sign}{grouped.replace(',', '.')},{cents}", f"{whole},{cents}", f"'{value}",
                 f"{sign}{grouped.replace(',', ' ')},{cents}")  # fmt: skip
    return str(_pick(forms, u))


def _integer_form(value: str, u: float) -> str:
    return str(_pick((f"{value}.0", f"'{value}", f"{value},-", f"{value} x"), u))


def _email_form(value: str, u: float) -> str:
    forms = (value.replace("@", " at "), f"mailto:{value}", value.replace("@", " @ "), value.replace(".", ","))
    return str(_pick(forms, u))


def _phone_form(value: str, u: float) -> str:
    digits = "".join(c for c in value if c.isdigit())
    return str(_pick((f"00{digits}", f"tel:{value}", f"{digits}.", value.replace("-", "/") + " (work)"), u))


def _code_form(value: str, u: float) -> str:
    groups = [value[i : i + 4] for i in range(0, len(value), 4)]
    return str(_pick((" ".join(groups), "-".join(groups), f"{value[:2].lower()} {value[2:]}"), u))


def _reference_form(value: str, u: float) -> str:
    return str(_pick((value.lower().replace("-", ""), f"{value} ", value.replace("-", " #"), f"#{value}"), u))


_FORMS: Final[dict[FieldType, Callable[[str, float], str]]] = {
    FieldType.DATE: _date_form,
    FieldType.STAMP: _stamp_form,
    FieldType.AMOUNT: _amount_form,
    FieldType.INTEGER: _integer_form,
    FieldType.EMAIL: _email_form,
    FieldType.PHONE: _phone_form,
    FieldType.CODE: _code_form,
}


# ---------------------------------------------------------------- slips


def misspelt(values: Texts, facts: FieldFacts, where: F64, how: F64, which: F64) -> Texts:
    """Make one slip of the keyboard per value; numbers and codes get one wrong digit.

    Args:
        values: the texts.
        facts: the field; a choice never becomes another allowed one.
        where: picks the place.
        how: picks the kind of slip.
        which: picks the key.
    """
    digits = facts.type in (FieldType.PHONE, FieldType.CODE, FieldType.REFERENCE, FieldType.KEY)
    if digits:
        return _each(_wrong_digit, values, where, which)
    if facts.type is FieldType.EMAIL:
        return _each(_slip_in_address, values, where, how, which)
    found = _each(_slip, values, where, how, which)
    if facts.type is FieldType.CHOICE:
        return _each(lambda slip, value: f"{value}{value[-1]}" if slip in facts.choices else slip, found, values)
    return found


def _wrong_digit(value: str, where: float, which: float) -> str:
    # the first two digits of an IBAN are its check digits; they may slip as well
    places = [i for i, c in enumerate(value) if c.isascii() and c.isdigit()]
    if not places:
        return _slip(value, where, 0.0, which)
    i = _pick(places, where)
    digit = (int(value[i]) + 1 + int(which * 9)) % 10
    return f"{value[:i]}{digit}{value[i + 1 :]}"


def _slip_in_address(value: str, where: float, how: float, which: float) -> str:
    # a neighbouring key or a letter twice: still a well-formed address
    at = max(value.find("@"), 1)
    return _slip(value[:at], where, 0.5 * how, which) + value[at:]


def _slip(value: str, where: float, how: float, which: float) -> str:
    """A neighbouring key, a letter twice, two letters exchanged, or one missing; a quarter of ``how`` each."""
    places = [i for i, c in enumerate(value) if c.isalpha()] or list(range(len(value)))
    i = _pick(places, where)
    c = value[i]
    if how < 0.25:
        near = _NEAR.get(c.lower())
        if near:
            key = _pick(near, which)
            return value[:i] + (key.upper() if c.isupper() else key) + value[i + 1 :]
    elif 0.5 <= how < 0.75 and i + 1 < len(value) and value[i + 1] != c:
        return value[:i] + value[i + 1] + c + value[i + 2 :]
    elif how >= 0.75 and len(value) > 1:
        return value[:i] + value[i + 1 :]
    return value[: i + 1] + c + value[i + 1 :]


def _neighbours() -> dict[str, str]:
    near: dict[str, str] = {}
    for row, keys in enumerate(_KEYS):
        for column, key in enumerate(keys):
            beside = [keys[k] for k in (column - 1, column + 1) if 0 <= k < len(keys)]
            above = [_KEYS[row - 1][k] for k in (column, column + 1) if row and k < len(_KEYS[row - 1])]
            near[key] = "".join(beside + above)
    return near


_NEAR: Final = _neighbours()


# ---------------------------------------------------------------- encodings, lengths


def decoded_wrongly(values: Texts, lost: Mask) -> Texts:
    """Return UTF-8 bytes read as Latin-1; where ``lost``, what is not ASCII becomes the replacement character."""
    return _each(_decoded, values, lost)


def _decoded(value: str, lost: bool) -> str:
    ascii_only = value.isascii()
    if lost:
        replaced = "".join(c if c.isascii() else "\ufffd" for c in value)
        return replaced if not ascii_only else "\ufffd" + value[1:]
    if ascii_only:
        # a non-breaking space, or a byte order mark, read as Latin-1
        return value.replace(" ", "\u00c2\u00a0", 1) if " " in value else f"\u00ef\u00bb\u00bf{value}"
    return value.encode("utf-8", "surrogatepass").decode("latin-1")


def truncated(values: Texts, keep: float, u: F64, *, email: bool = False) -> Texts:
    """Cut each value to at least the share ``keep`` of its length, always by one character at least.

    A value of one character is left alone.

    Args:
        values: the texts.
        keep: share that is kept at least.
        u: how much more is kept.
        email: cut in front of the dot of the domain, so that a check of the format sees it.
    """

    def cut(value: str, x: float) -> str:
        longest = len(value) - 1
        if email and "@" in value:
            longest = min(longest, max(value.find(".", value.find("@")), 1))
        longest = max(longest, 1)
        least = min(max(int(keep * len(value)), 1), longest)
        return value[: least + int(x * (longest - least + 1))]

    return _each(cut, values, u)


# ---------------------------------------------------------------- numbers, dates, units


def out_of_range(values: Texts, facts: FieldFacts, factor: float, u: F64, negative: Mask) -> Texts:
    """Return numbers whose size is at least ``factor`` times the greatest in use."""
    digits = facts.decimals if facts.type is FieldType.AMOUNT else 0
    greatest = max(abs(facts.high), abs(facts.low), 1.0)

    def far(value: str, x: float, minus: bool) -> str:
        size = max(abs(_number(value)), greatest) * factor * _pick(_FACTORS, x)
        return f"{-size if minus else size:.{digits}f}"

    return _each(far, values, u, negative)


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return 0.0


def strange_dates(values: Texts, u: F64) -> Texts:
    """Return dates that nobody meant: defaults of old systems, the beginning and the end of time."""

    def strange(value: str, x: float) -> str:
        found = _pick(_STRANGE_DATES, x)
        return str(found if found != value else _STRANGE_DATES[0])

    return _each(strange, values, u)


def multiplied(values: Texts, rates: NDArray[Any], decimals: int) -> Texts:
    """Return amounts times ``rates``, with that many decimals."""
    return _each(lambda value, rate: f"{_number(value) * rate:.{decimals}f}", values, rates)


def has_other_unit(choices: Sequence[str]) -> bool:
    """Return whether every choice can be converted into another one."""
    return all(len(_alternatives(choice, choices)) > 0 for choice in choices) and len(choices) > 0


def _alternatives(unit: str, choices: Sequence[str]) -> list[str]:
    group = next((group for group in _UNITS if unit in group), {})
    return [choice for choice in choices if choice != unit and choice in group]


def other_units(values: Texts, choices: Sequence[str], u: F64) -> Texts:
    """Return another of ``choices`` that each unit converts into; the unit itself where there is none."""
    return _each(lambda value, x: _pick(_alternatives(value, choices) or [value], x), values, u)


def conversion(units: Texts, others: Texts, factor: float) -> F64:
    """Return what one of each unit is in the other; ``factor`` where it is the same unit."""
    tables = {unit: group for group in _UNITS for unit in group}

    def rate(unit: str, other: str) -> float:
        return factor if unit == other else tables[unit][other] / tables[unit][unit]

    return _each(rate, units, others).astype(np.float64)


def older(values: Texts, u: F64, days: float) -> Texts:
    """Return ISO dates or time stamps that are one minute (date: one day) to ``days`` days older."""

    def before(value: str, x: float) -> str:
        if "T" not in value:
            return str(np.datetime64(value, "D") - max(1, int(x * days)))
        moved = np.datetime64(value.rstrip("Z"), "s") - max(60, int(x * days * 86_400))
        return f"{moved}Z" if value.endswith("Z") else str(moved)

    return _each(before, values, u)


def nudged(value: str, facts: FieldFacts) -> str:
    """Return the plausible value next to ``value``: another choice, the day before, one more, a letter twice."""
    if facts.type is FieldType.CHOICE and any(choice != value for choice in facts.choices):
        at = facts.choices.index(value) if value in facts.choices else -1
        return next(choice for choice in (*facts.choices[at + 1 :], *facts.choices) if choice != value)
    if facts.type is FieldType.DATE and len(value) == 10:
        try:
            return date.fromordinal(max(2, date.fromisoformat(value).toordinal()) - 1).isoformat()
        except ValueError:
            return f"{value}{value[-1]}"
    if facts.type in (FieldType.AMOUNT, FieldType.INTEGER) and value.replace(".", "", 1).lstrip("-").isdigit():
        return f"{float(value) + 1:.{len(value.partition('.')[2])}f}"
    if facts.type in (FieldType.PHONE, FieldType.CODE):
        return _wrong_digit(value, 0.99, 0.0)
    return _slip(value, 0.5, 0.3, 0.0) if facts.type is not FieldType.EMAIL else _slip_in_address(value, 0.5, 0.6, 0.0)
