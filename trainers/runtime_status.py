"""How the exceptions of real calls read as the statuses that a policy knows."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

from ..faults import Status
from .live_core import CallableError

StatusRule = Mapping[type[BaseException] | int | str, Status | str]


class Refused(Exception):
    """Raised by a call whose model declined to answer."""


# Exception types and codes -> status. A text is the name of a class anywhere among an exception's bases, so that
# no client library has to be imported to be understood.
STATUS_RULES: Final[StatusRule] = {
    TimeoutError: Status.TIMEOUT,
    Refused: Status.REFUSED,
    ConnectionRefusedError: Status.UNAVAILABLE,
    ConnectionError: Status.RESET,
    EOFError: Status.RESET,
    "JSONDecodeError": Status.MALFORMED,
    UnicodeDecodeError: Status.MALFORMED,
    "gaierror": Status.UNAVAILABLE,
    "APITimeoutError": Status.TIMEOUT,
    "TimeoutException": Status.TIMEOUT,  # httpx
    "ServerTimeoutError": Status.TIMEOUT,  # aiohttp
    "Timeout": Status.TIMEOUT,  # requests, litellm
    "ConnectError": Status.UNAVAILABLE,
    "ClientConnectorError": Status.UNAVAILABLE,
    "APIConnectionError": Status.RESET,
    "ServerDisconnectedError": Status.RESET,
    "RemoteProtocolError": Status.RESET,
    "ReadError": Status.RESET,
    "RateLimitError": Status.RATE_LIMITED,
    "ServiceUnavailableError": Status.UNAVAILABLE,
    "InternalServerError": Status.SERVER_ERROR,
    "ContentFilterFinishReasonError": Status.REFUSED,
    "ContentPolicyViolationError": Status.REFUSED,
    408: Status.TIMEOUT,
    429: Status.RATE_LIMITED,
    451: Status.REFUSED,
    500: Status.SERVER_ERROR,
    502: Status.BAD_GATEWAY,
    503: Status.UNAVAILABLE,
    504: Status.TIMEOUT,
    529: Status.UNAVAILABLE,
}
_CODES: Final = ("status_code", "http_status", "status", "code")


class StatusTable:
    """Reads an exception as the status that a policy may see.

    Args:
        extra: rules that go before :data:`STATUS_RULES`: exception type, class name or HTTP code -> status.

    Raises:
        CallableError: a key or status is not of these kinds.

    >>> StatusTable({"QuotaExceeded": "rate-limited"}).read(ConnectionResetError("peer"))[0].word
    'reset'
    """

    def __init__(self, extra: StatusRule | None = None) -> None:
        self._types: list[tuple[type[BaseException], Status]] = []
        self._names: dict[str, Status] = {}
        self._codes: dict[int, Status] = {}
        for key, status in [*(extra or {}).items(), *STATUS_RULES.items()]:
            word = visible_status(status, f"statuses[{key!r}]")
            if isinstance(key, bool) or not isinstance(key, (int, str, type)):
                raise CallableError(f"statuses: got the key {key!r}; allowed: an exception type, its name, or a code")
            if isinstance(key, int):
                self._codes.setdefault(key, word)
            elif isinstance(key, str):
                self._names.setdefault(key, word)
            elif issubclass(key, BaseException):
                self._types.append((key, word))
            else:
                raise CallableError(f"statuses: got the key {key!r}; allowed: an exception type, its name, or a code")
        self._own = [(key, visible_status(value, "statuses")) for key, value in (extra or {}).items()]

    def read(self, error: BaseException) -> tuple[Status, float]:
        """Return the status of an exception and the seconds of its ``Retry-After``, 0 without one.

        The user's rules come first, then the HTTP code, then names and types from the most special class up.
        """
        retry, code = retry_after(error), _code(error)
        names = [base.__name__ for base in type(error).__mro__]
        for key, status in self._own:
            if key == code or key in names or (isinstance(key, type) and isinstance(error, key)):
                return status, retry
        if code is not None:
            if code in self._codes:
                return self._codes[code], retry
            if 400 <= code < 600:
                return (Status.SERVER_ERROR if code >= 500 else Status.UNEXPECTED), retry
        types = dict(reversed(self._types))
        for base in type(error).__mro__:
            if base.__name__ in self._names:
                return self._names[base.__name__], retry
            if base in types:
                return types[base], retry
        return Status.UNEXPECTED, retry


def visible_status(value: Any, where: str) -> Status:
    """Return the status called ``value``.

    Raises:
        CallableError: if it is none that an ended call can have.
    """
    allowed = [status.word for status in Status if status not in (Status.RUNNING, Status.CANCELLED)]
    try:
        status = Status(value) if isinstance(value, int) and not isinstance(value, bool) else Status.parse(value)
    except ValueError:
        status = Status.RUNNING
    if status.word not in allowed:
        raise CallableError(f"{where}: got {value!r}; allowed: {', '.join(allowed)}")
    return status


def _code(error: BaseException) -> int | None:
    """The HTTP code that an exception carries itself or in its ``response``."""
    for holder in (error, getattr(error, "response", None)):
        for name in _CODES:
            value = getattr(holder, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
                return int(value)
    return None


def retry_after(error: BaseException, now: float | None = None) -> float:
    """Seconds that an exception asks to wait: its ``retry_after(_s)``, or the header of its response.

    Args:
        error: the exception.
        now: time as ``time.time()`` gives it, against which a date in the header is read.
    """
    for name in ("retry_after_s", "retry_after"):
        seconds = seconds_of(getattr(error, name, None))
        if seconds is not None:
            return seconds
    for holder in (getattr(error, "response", None), error):
        headers = getattr(holder, "headers", None)
        if not hasattr(headers, "get"):
            continue
        for name in ("retry-after", "Retry-After"):
            value = headers.get(name)  # type: ignore[union-attr]
            seconds = seconds_of(value)
            if seconds is None and isinstance(value, str):
                seconds = _until(value, now)
            if seconds is not None:
                return seconds
    return 0.0


def seconds_of(value: Any) -> float | None:
    """Return ``value`` as a finite number from 0, or None if it is none."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _until(text: str, now: float | None) -> float | None:
    try:
        return max(parsedate_to_datetime(text).timestamp() - (time.time() if now is None else now), 0.0)
    except (TypeError, ValueError):
        return None
