"""Reading schemas of records: built-in names, files, mappings, and errors that name the place."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import BrownoutError, RecordError, ScenarioError
from .loading import LIBRARY, RECORDS_SUFFIX
from .places import Place, Source, explain, read_nodes
from .record_facts import check_profiles
from .record_schema import RecordSchema


def builtin_record_schemas() -> list[str]:
    """Names of the schemas that come with the package."""
    return sorted(path.name.removesuffix(RECORDS_SUFFIX) for path in LIBRARY.glob(f"*{RECORDS_SUFFIX}"))


def load_record_schema(source: str | Path | Mapping[str, Any] | RecordSchema) -> RecordSchema:
    """Load a schema of records and check it whole, its profiles included.

    Args:
        source: a built-in name, the path of a YAML file, a mapping, or a schema (returned as it is).

    Raises:
        RecordError: with the file, the line, the field, the value met and what is allowed.

    >>> load_record_schema("commerce").main_kind
    'order'
    """
    if isinstance(source, RecordSchema):
        return source
    if isinstance(source, Mapping):
        name = source.get("name")
        return _build(source, None, Place(name if isinstance(name, str) else "records"))
    path = _resolve(source)
    try:
        node = read_nodes(path)
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (ScenarioError, yaml.YAMLError, ValueError) as error:
        raise RecordError(str(error) if isinstance(error, ScenarioError) else f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise RecordError(f"{path}: a schema of records is a mapping of fields, got {type(data).__name__}")
    return _build(data, path, Place(str(path), (Source(path, node),)))


def _resolve(source: str | Path) -> Path:
    text = str(source)
    builtin = LIBRARY / f"{text}{RECORDS_SUFFIX}"
    if "/" not in text and builtin.is_file():
        return builtin
    path = Path(text).expanduser()
    if path.is_file():
        return path
    names = builtin_record_schemas()
    near = difflib.get_close_matches(text, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    raise RecordError(
        f"no schema of records {text!r}: neither a file nor a built-in name{hint} built in: {', '.join(names)}"
    )


def _build(data: Mapping[str, Any], path: Path | None, place: Place) -> RecordSchema:
    try:
        schema = RecordSchema.model_validate(dict(data))
    except ValidationError as error:
        raise RecordError(explain(error, place, RecordSchema)) from None
    schema._path = path
    try:
        check_profiles(schema)
    except BrownoutError as error:
        keys = str(error).split(":")[0].split(" ")[0].replace("[", ".").replace("]", "").split(".")
        raise RecordError(f"{place.prefix(keys)}{error}") from error
    return schema
