"""Numbers of records: unique keys without a memory of those given out, and codes with check digits."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import stream_id

I64 = NDArray[np.int64]
Texts = NDArray[np.object_]

# Digits behind the check digits, of countries whose account numbers hold no letters (SWIFT IBAN registry).
# Check digits within the account number, which some countries have, are not made.
IBAN_DIGITS: Final = {"DE": 18, "AT": 16, "BE": 12, "DK": 14, "ES": 20, "FI": 14, "PL": 24, "PT": 21, "SE": 20}


class Permutation:
    """Row to number and back, one to one: ``number = (a * row + b) mod size`` with ``a`` prime to ``size``.

    Args:
        name: names the stream that ``a`` and ``b`` come from.
        seed: seed of the records.
        size: rows and numbers are below it; at most 10**9, so that products fit into 64 bits.
    """

    def __init__(self, name: str, seed: int, size: int) -> None:
        self.size = size
        # near the golden ratio of the size neighbours land far apart
        a = int(size * 0.6180339887) + stream_id(f"{name}.a.{seed}") % max(1, size // 8)
        while math.gcd(a, size) != 1:
            a += 1
        self._a, self._b = a % size, stream_id(f"{name}.b.{seed}") % size
        self._inverse = pow(self._a, -1, size)

    def number(self, rows: I64) -> I64:
        """Return the numbers of rows."""
        return (rows * self._a + self._b) % self.size

    def row(self, number: int) -> int:
        """Return the row of a number."""
        return (number - self._b) * self._inverse % self.size


@lru_cache(maxsize=8)
def padded(digits: int) -> Texts:
    """Return the texts of all numbers with so many digits, ``000`` to ``999`` for 3."""
    return np.array([f"{n:0{digits}d}" for n in range(10**digits)], dtype=object)


def zero_padded(numbers: I64, digits: int) -> Texts:
    """Return numbers as text with leading zeros; ``digits`` at most 18."""
    if digits <= 4:
        return padded(digits).take(numbers)
    high, low = np.divmod(numbers, 10**4)
    return zero_padded(high, digits - 4) + padded(4).take(low)


def iban(country: str, account: list[tuple[I64, int]]) -> Texts:
    """Return IBANs of a country.

    Args:
        country: key of :data:`IBAN_DIGITS`.
        account: the account number in parts: ``(m,)`` numbers and how many digits each has.

    Source: ISO 13616, check digits by ISO 7064 MOD 97-10.
    """
    remainder = np.zeros_like(account[0][0])
    for part, digits in account:
        remainder = (remainder * (10**digits % 97) + part) % 97
    letters = "".join(str(ord(letter) - 55) for letter in country)
    check = 98 - (remainder * (10**6 % 97) + int(letters + "00")) % 97
    text = country + padded(2).take(check)
    for part, digits in account:
        text = text + zero_padded(part, digits)
    return text


def with_check_digit(payload: Texts, weights: tuple[int, int], *, fold: bool) -> Texts:
    """Return digits with a check digit that makes the weighted sum a multiple of ten.

    Args:
        payload: ``(m,)`` texts of equally many digits.
        weights: of the last digit of the payload, of the one before it, and so on in turn.
        fold: replace a product above 9 by the sum of its digits, as Luhn does (ISO/IEC 7812-1); article
            numbers (GS1) do not.
    """
    if not payload.size:
        return payload
    digits = np.array(payload.tolist(), dtype=np.bytes_).view(np.uint8).reshape(payload.size, -1).astype(np.int64) - 48
    turns = np.array([weights[i % 2] for i in range(digits.shape[1])][::-1])
    products = digits * turns
    if fold:
        products -= 9 * (products > 9)
    return payload + padded(1).take(-products.sum(axis=1) % 10)
