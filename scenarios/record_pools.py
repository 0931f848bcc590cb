"""Pools of Faker's values, made once and then drawn from by stream.

Faker makes some 15,000 names a second; taking from an array makes tens of millions. A pool is a pure
function of (locale, provider, arguments, size) and of Faker's version, and comes from a seeded generator of
its own: Faker's global state and ``random`` are left alone.
"""

from __future__ import annotations

import difflib
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import stream_id
from ..errors import RecordError

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Texts = NDArray[np.object_]

_FAMILY_NAME_FIRST: Final = frozenset({"ja", "zh", "ko", "hu", "vi"})
_NUMBER_FIRST: Final = frozenset({"en", "fr", "ja", "zh", "ko", "ga"})
_CALLING_CODES: Final = {
    "US": 1, "CA": 1, "GB": 44, "IE": 353, "DE": 49, "AT": 43, "CH": 41, "FR": 33, "BE": 32, "NL": 31, "ES": 34,
    "PT": 351, "IT": 39, "DK": 45, "SE": 46, "NO": 47, "FI": 358, "PL": 48, "CZ": 420, "SK": 421, "HU": 36, "RO": 40,
    "BG": 359, "GR": 30, "TR": 90, "UA": 380, "IL": 972, "IN": 91, "CN": 86, "TW": 886, "JP": 81, "KR": 82, "TH": 66,
    "VN": 84, "ID": 62, "PH": 63, "AU": 61, "NZ": 64, "BR": 55, "MX": 52, "AR": 54, "CL": 56, "CO": 57, "PE": 51,
    "ZA": 27, "NG": 234, "EG": 20, "SA": 966, "HR": 385, "SI": 386, "EE": 372, "LV": 371, "LT": 370, "PK": 92,
}  # fmt: skip


@lru_cache(maxsize=64)
def _faker(locale: str) -> Any:
    from faker import Faker
    from faker.config import AVAILABLE_LOCALES

    try:
        return Faker(locale)
    except AttributeError:
        near = difflib.get_close_matches(locale, AVAILABLE_LOCALES, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise RecordError(
            f"locales.{locale}: Faker has no locale {locale!r}{hint or ';'} it has {len(AVAILABLE_LOCALES)}, "
            f"such as en_US, de_DE, fr_FR, ja_JP"
        ) from None


def check_locale(locale: str) -> None:
    """Refuse a locale that Faker does not have.

    Raises:
        RecordError: with the nearest names.
    """
    _faker(locale)


def _method(locale: str, provider: str) -> Callable[..., Any]:
    faker = _faker(locale)
    # only what a provider offers: the generator itself has methods that change it
    names = sorted({name for one in faker.get_providers() for name in dir(one) if not name.startswith("_")})
    if provider not in names or not callable(getattr(faker, provider, None)):
        near = difflib.get_close_matches(provider, names, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise RecordError(f"provider: Faker has no {provider!r} in the locale {locale}{hint}")
    return getattr(faker, provider)


def pool(locale: str, provider: str, size: int, arguments: Mapping[str, Any] | None = None) -> Texts:
    """Return ``size`` values of a Faker provider in one locale, as text.

    Values that are common in Faker's lists are there several times.

    Raises:
        RecordError: if there is no such locale or provider, or it cannot be called so, or gives no text.
    """
    return _pool(locale, provider, size, json.dumps(arguments or {}, sort_keys=True))


@lru_cache(maxsize=1024)
def _pool(locale: str, provider: str, size: int, arguments: str) -> Texts:
    method = _method(locale, provider)
    _faker(locale).seed_instance(stream_id(f"pool.{locale}.{provider}.{arguments}"))
    given = json.loads(arguments)
    try:
        values = [_text(method(**given), provider) for _ in range(size)]
    except RecordError:
        raise
    except Exception as error:
        raise RecordError(
            f"provider: {provider}({arguments}) in {locale} raised {type(error).__name__}: {error}"
        ) from error
    found = np.empty(size, dtype=object)
    found[:] = values
    return found


def _text(value: object, provider: str) -> str:
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool) and str(value):
        return str(value)
    raise RecordError(f"provider: {provider} gives {type(value).__name__} {value!r}; allowed: text, numbers, dates")


@lru_cache(maxsize=1024)
def slugs(locale: str, provider: str, size: int, arguments: str) -> Texts:
    """Return the pool's values as they stand in e-mail addresses: ASCII, lower case, no spaces."""
    users = pool(locale, "user_name", 200)
    found = np.empty(size, dtype=object)
    found[:] = [
        _slug(value) or users[i % users.size] for i, value in enumerate(_pool(locale, provider, size, arguments))
    ]
    return found


def _slug(value: str) -> str:
    bare = unicodedata.normalize("NFKD", value.replace("ß", "ss").replace("ø", "o").replace("ł", "l"))
    return "".join(c for c in bare.lower() if c.isascii() and c.isalnum())


class Mixed:
    """Pools of several locales side by side; a row takes from the pool of its locale.

    Args:
        parts: one pool per locale, in the order of the locale index.
    """

    def __init__(self, parts: Sequence[Texts]) -> None:
        self._sizes = np.array([part.size for part in parts], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)[:-1]])
        self._values = np.concatenate(list(parts))
        self._one = len(parts) == 1

    def index(self, locale: I64, u: F64) -> I64:
        """Return ``(m,)`` places in the joint pool for locale indices and uniforms."""
        if self._one:
            return (u * self._sizes[0]).astype(np.int64)
        return self._starts.take(locale) + (u * self._sizes.take(locale)).astype(np.int64)

    def take(self, index: I64) -> Texts:
        """Return the values at these places."""
        return self._values.take(index)


def calling_code(locale: str) -> int:
    """Return the country calling code of a locale; 999, which is not assigned, if it is not known."""
    return _CALLING_CODES.get(locale.partition("_")[2], 999)


def family_name_first(locale: str) -> bool:
    """Return whether the family name comes first."""
    return locale.partition("_")[0] in _FAMILY_NAME_FIRST


def number_first(locale: str) -> bool:
    """Return whether the house number comes before the street."""
    return locale.partition("_")[0] in _NUMBER_FIRST
