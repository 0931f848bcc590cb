"""What a table of recorded runs leaves open: missing money and time, and how a run ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import TableError
from .table_io import F64, I64, is_empty, listed, near

Rule = float | str

RULES: Final = {"cost_usd": ("config-median", "tokens"), "latency_s": ("config-median",)}

# How a run ended -> the status that its caller sees. `ok` is a run that looked fine, right or wrong.
FAILURE_STATUS: Final[Mapping[str, str]] = {
    "ok": "ok",
    "wrong_result": "ok",
    # MCPMark
    "context_overflow": "unexpected",
    "malformed_tool_json": "malformed",
    "max_turns": "empty",
    "provider_4xx": "unexpected",
    "provider_5xx_or_conn": "server-error",
    "other_exception": "unexpected",
    "tool_service_error": "bad-gateway",
    # Berkeley function-calling leaderboard: a call that cannot be decoded is visible, a wrong one is not
    "ast_decoder": "malformed",
    "executable_decoder": "malformed",
    "executable_checker": "ok",
    "executable_checker_rest": "ok",
    "parallel_function_checker_no_order": "ok",
    "relevance_error": "ok",
    "simple_exec_checker": "ok",
    "simple_function_checker": "ok",
    "type_error": "ok",
    "value_error": "ok",
}


def check_rules(missing: Mapping[str, Rule]) -> None:
    """Check the rules that fill missing values.

    Raises:
        TableError: naming the rule, the value met and what is allowed.
    """
    for name, rule in missing.items():
        if name not in RULES:
            raise TableError(f"missing.{name}: no such rule{near(name, RULES)}; allowed: {', '.join(RULES)}")
        number = isinstance(rule, (int, float)) and not isinstance(rule, bool)
        if number and not (np.isfinite(float(rule)) and float(rule) >= 0.0):
            raise TableError(f"missing.{name}: got {rule!r}; allowed: a finite number from 0")
        if not number and rule not in RULES[name]:
            words = ", ".join(map(repr, RULES[name]))
            raise TableError(f"missing.{name}: got {rule!r}; allowed: {words} or a number from 0")


def fill_missing(
    source: str,
    name: str,
    values: F64,
    rows: I64,
    config: I64,
    configs: Sequence[str],
    train: NDArray[np.bool_],
    rule: Rule | None,
    tokens: F64 | None,
) -> tuple[F64, int]:
    """Fill the missing values of ``cost_usd`` or ``latency_s`` by a stated rule.

    ``config-median`` is the median of the configuration's known values, on train queries where there are
    any. ``tokens`` is ``a * tokens_in + b * tokens_out`` with prices fitted to the configuration's known
    costs (non-negative least squares). A number fills as it is.

    Args:
        source: file, for messages.
        name: column.
        values: ``(n,)`` values of the chosen rows, NaN where missing.
        rows: ``(n,)`` row numbers in the file, from 0.
        config: ``(n,)`` index of each row's configuration.
        configs: names of the configurations.
        train: ``(n,)`` whether the row's query is a train query.
        rule: the rule, or None when missing values are an error.
        tokens: ``(n, 2)`` tokens in and out, NaN where missing; None when the table has none.

    Returns:
        the filled values, and how many were filled.

    Raises:
        TableError: saying how many values are missing, in which rows, and what to do.
    """
    empty = np.isnan(values)
    count = int(empty.sum())
    if not count:
        return values, 0
    per_config = Counter(configs[code] for code in config[empty])
    worst = [f"{config_name} ({n})" for config_name, n in per_config.most_common()]
    where = f"{source}: column {name!r} is empty in {count} of {len(values)} rows"
    first = f"first rows {listed((rows[empty][:5] + 1).tolist())}; configurations {listed(worst, 6)}"
    words = " or ".join([f"'{word}'" for word in RULES[name]] + ["a number"])
    if rule is None:
        raise TableError(
            f"{where} ({first}). Leave these configurations out with configs=[...], or state a rule: "
            f"missing={{{name!r}: ...}} with {words}"
        )
    filled = values.copy()
    if not isinstance(rule, str):
        filled[empty] = float(rule)
        return filled, count
    for code in np.unique(config[empty]):
        mine = config == code
        known = mine & ~empty
        if not known.any():
            raise TableError(
                f"{where}: all values of configuration {configs[code]!r} are missing, so the rule {rule!r} "
                f"has nothing to go by. Leave it out with configs=[...], or fill with a number: "
                f"missing={{{name!r}: 0.0}}"
            )
        if rule == "config-median":
            basis = known & train if (known & train).any() else known
            filled[mine & empty] = np.median(values[basis])
        else:
            filled[mine & empty] = _price(where, values, known, mine & empty, rows, tokens)
    return filled, count


def _price(
    where: str,
    values: F64,
    known: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    rows: I64,
    tokens: F64 | None,
) -> F64:
    """Return the costs of the wanted rows from token prices fitted to the known ones."""
    if tokens is None:
        raise TableError(f"{where}: the rule 'tokens' needs the columns 'tokens_in' and 'tokens_out'")
    blank = wanted & np.isnan(tokens).any(axis=1)
    if blank.any():
        raise TableError(
            f"{where}: the rule 'tokens' cannot fill row {int(rows[blank][0]) + 1}, whose token counts are "
            f"empty too ({int(blank.sum())} such rows); use 'config-median' or a number"
        )
    usable = known & ~np.isnan(tokens).any(axis=1) & (tokens > 0).any(axis=1)
    if not usable.any():
        raise TableError(f"{where}: the rule 'tokens' finds no row with both cost and tokens; use a number")
    return tokens[wanted] @ _nonnegative_fit(tokens[usable], values[usable])


def _nonnegative_fit(x: F64, y: F64) -> F64:
    """Non-negative least squares in two variables: the best of the interior and the two edges."""
    interior = np.asarray(np.linalg.lstsq(x, y, rcond=None)[0], dtype=np.float64)
    if (interior >= 0.0).all():
        return interior
    best, best_error = np.zeros(2), float(y @ y)
    for j in range(2):
        norm = float(x[:, j] @ x[:, j])
        price = np.zeros(2)
        price[j] = max(0.0, float(x[:, j] @ y) / norm) if norm else 0.0
        residual = y - x @ price
        if float(residual @ residual) < best_error:
            best, best_error = price, float(residual @ residual)
    return best


def failure_statuses(source: str, modes: Sequence[object], overrides: Mapping[str, str]) -> NDArray[np.int8]:
    """Return the visible status of each run.

    A mode is looked up in ``overrides``, then in ``FAILURE_STATUS``, then among the words of the statuses
    themselves (``rate-limited`` or ``rate_limited``), then as ``overrides['other']``. An empty mode is OK.

    Raises:
        TableError: listing the modes that have no status, or naming a status that does not exist.
    """
    from ..faults.calls import Status

    allowed = {status.word: status for status in Status if status not in (Status.RUNNING, Status.CANCELLED)}
    for mode, status in overrides.items():
        if _word(status) not in allowed:
            raise TableError(
                f"failure_status.{mode}: got {status!r}{near(status, allowed)}; allowed: {', '.join(allowed)}"
            )
    table: dict[object, int] = {}
    unknown: Counter[str] = Counter()
    for mode, count in Counter(None if is_empty(mode) else str(mode) for mode in modes).items():
        name = "ok" if mode is None else overrides.get(mode) or FAILURE_STATUS.get(mode)
        if name is None:
            name = mode if _word(mode) in allowed else overrides.get("other")
        if name is None:
            unknown[str(mode)] = count
        else:
            table[mode] = int(allowed[_word(name)])
    if unknown:
        shown = listed([f"{mode!r} ({count} rows)" for mode, count in unknown.most_common()])
        raise TableError(
            f"{source}: column 'failure_mode': no status for {shown}. Map each with "
            "failure_status={mode: status}, or all others with the key 'other'; "
            f"allowed: {', '.join(allowed)}"
        )
    return np.array([table[None if is_empty(mode) else str(mode)] for mode in modes], dtype=np.int8)


def _word(name: object) -> str:
    return str(name).lower().replace("_", "-")
