"""Ids and secrets of a service that nobody can guess; the one place that draws what no seed repeats."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from ..errors import ServeError

VARIABLE: Final = "BROWNOUT_CONTROL_SECRET"
LEAST: Final = 16


def new_secret() -> str:
    """A fresh text of 192 random bits, safe in an address."""
    return secrets.token_urlsafe(24)


def same_secret(given: str, wanted: str) -> bool:
    """Compare two secrets in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def control_secret(file: str | Path | None = None) -> tuple[str, bool]:
    """The secret of the control address, and whether it is a new one that the user must be told.

    Args:
        file: file that holds it; by default the variable ``BROWNOUT_CONTROL_SECRET``, else a new one is made.

    Raises:
        ServeError: the file cannot be read, or the secret is short or holds what a header cannot.
    """
    if file is not None:
        try:
            text, source = Path(file).read_text(encoding="utf-8").strip(), str(file)
        except (OSError, UnicodeDecodeError) as reason:
            raise ServeError(f"{file}: cannot read the control secret: {reason}") from reason
    elif VARIABLE in os.environ:
        text, source = os.environ[VARIABLE].strip(), VARIABLE
    else:
        return new_secret(), True
    if len(text) < LEAST or not text.isascii() or not text.isprintable() or " " in text:
        raise ServeError(
            f"{source}: not a usable control secret ({len(text)} characters); allowed: at least {LEAST} printable "
            "ASCII characters without spaces"
        )
    return text, False
