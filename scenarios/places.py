"""Where in a scenario's files a field stands, and error messages that say so."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import ScenarioError

LARGEST = 1_000_000  # bytes
_MOST_NODES = 100_000  # aliases counted as often as they are used


@dataclass(frozen=True, eq=False)
class Source:
    """One file of a scenario with its YAML nodes."""

    path: Path
    node: yaml.Node | None


@dataclass(frozen=True, eq=False)
class Place:
    """What an error message can point at.

    Args:
        name: file or name of the scenario.
        sources: the files, the topmost first; a scenario that extends another has several.
        assigned: keys and text of every ``--set``, in order.
    """

    name: str
    sources: tuple[Source, ...] = ()
    assigned: tuple[tuple[tuple[str, ...], str], ...] = ()

    def prefix(self, keys: Sequence[str]) -> str:
        """``file:line: `` of the field, or ``--set '...': `` where an assignment put it."""
        for assigned, text in reversed(self.assigned):
            shared = min(len(assigned), len(keys))
            if tuple(keys[:shared]) == assigned[:shared] and (len(keys) >= len(assigned) or shared > 1):
                return f"{self.name}: --set {text!r}: "
        best, deepest, line = None, 0, None
        for source in self.sources:
            depth, found = _find(source.node, keys)
            if depth > deepest:
                best, deepest, line = source, depth, found
        if best is None:
            return f"{self.name}: "
        return f"{best.path}:{line}: "

    def at(self, keys: Sequence[str]) -> str:
        """The prefix and the dotted field."""
        return f"{self.prefix(keys)}{'.'.join(keys) or '(top level)'}"


def _find(node: yaml.Node | None, keys: Sequence[str]) -> tuple[int, int | None]:
    """Return how many of ``keys`` the file has, and the line (from 1) of the deepest of them."""
    line = None
    for depth, key in enumerate(keys):
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == key), None)
            if found is None:
                return depth, line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            item: yaml.Node = node.value[int(key)]
            line, node = item.start_mark.line + 1, item
        else:
            return depth, line
    return len(keys), line


# ---------------------------------------------------------------- reading


def read_nodes(path: Path) -> yaml.Node | None:
    """Parse a file into YAML nodes, refusing what a loader would pass over in silence.

    Raises:
        ScenarioError: if it cannot be read, is not YAML, repeats a key, or grows without bound.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise ScenarioError(f"{path}: {size} bytes are too many for a scenario; allowed: {LARGEST}")
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ScenarioError(f"{path}{line}: not valid YAML: {error.problem or error.context}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ScenarioError(f"{path}: not a readable YAML file: {' '.join(str(error).split())}") from error
    _walk(path, node, (), [0])
    return node


def _walk(path: Path, node: yaml.Node | None, above: tuple[int, ...], count: list[int]) -> None:
    if node is None:
        return
    count[0] += 1
    line = node.start_mark.line + 1 if node.start_mark else 1
    if id(node) in above:
        raise ScenarioError(f"{path}:{line}: an alias holds itself")
    if count[0] > _MOST_NODES or len(above) > 50:
        raise ScenarioError(f"{path}:{line}: too large or too deeply nested for a scenario")
    above = (*above, id(node))
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ScenarioError(f"{path}:{key.start_mark.line + 1}: a field's name must be plain text")
            if key.value in seen and key.value != "<<":
                raise ScenarioError(
                    f"{path}:{key.start_mark.line + 1}: the field {key.value!r} is given twice, "
                    f"first in line {seen[key.value]}"
                )
            seen[key.value] = key.start_mark.line + 1
            _walk(path, value, above, count)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _walk(path, item, above, count)


# ---------------------------------------------------------------- pydantic errors


def explain(error: ValidationError, place: Place, model: type[BaseModel]) -> str:
    """Turn a validation error into lines of ``file:line: field: what is wrong, got ...``."""
    found = [_line(dict(item), place, model) for item in error.errors(include_url=False)]
    lines: dict[tuple[str, ...], str] = {}
    for keys, line, wrong_type in found:
        # of a field that may be a number or a mapping, only the complaint about the form that was meant
        deeper = any(len(other) > len(keys) and other[: len(keys)] == keys for other, *_ in found)
        if not (wrong_type and deeper):
            lines.setdefault(keys, line)
    return "\n".join(lines.values())


def _line(item: dict[str, Any], place: Place, model: type[BaseModel]) -> tuple[tuple[str, ...], str, bool]:
    keys, parent = _fields(item["loc"], model)
    met = item.get("input")
    message = str(item["msg"]).removeprefix("Value error, ")
    shown = "" if isinstance(met, (dict, list, BaseModel)) or item["type"] == "missing" else f", got {met!r}"
    if item["type"] == "extra_forbidden":
        known = list(parent.model_fields) if parent is not None else []
        near = difflib.get_close_matches(keys[-1], known, n=2)
        guess = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
        message, shown = f"unknown field{guess}; allowed: {', '.join(known)}", ""
    elif item["type"].startswith("union_tag_"):
        context = item["ctx"]
        keys = [*keys, context["discriminator"].strip("'")]
        message, shown = "required field is missing", ""
        if "expected_tags" in context:
            message = f"got {context['tag']!r}; allowed: {context['expected_tags']}"
    elif item["type"] == "missing":
        message = "required field is missing"
    elif item["type"] == "value_error" and not shown:
        # a check over several fields names the field itself
        first = message.partition(":")[0]
        if first and " " not in first and ":" in message:
            keys, message = [*keys, *first.split(".")], message.partition(":")[2].strip()
    elif item["type"] == "string_pattern_mismatch":
        message = "a name must start with a letter or digit, then letters, digits and any of _ . + -"
    elif item["type"].endswith("_type") and isinstance(met, (dict, list)):
        shown = f", got a {'mapping' if isinstance(met, dict) else 'list'}"
    return tuple(keys), f"{place.at(keys)}: {message}{shown}", item["type"].endswith("_type")


def _fields(loc: Sequence[int | str], model: type[BaseModel]) -> tuple[list[str], type[BaseModel] | None]:
    """Drop from a pydantic location what is no key of the file; also return the innermost model."""
    keys: list[str] = []
    current: Any = model
    parent: type[BaseModel] | None = model
    for part in loc:
        text = str(part)
        inside = [option for option in get_args(current) if option is not type(None)]
        if get_origin(current) in (Union, UnionType) and len(inside) == 1:
            current = inside[0]  # what may be left out
        options = _models(current)
        tagged = [m for m in options if text in (f.default for n, f in m.model_fields.items() if n in ("kind", "type"))]
        if len(options) > 1 and tagged:  # the tag of a union, not a key
            current = parent = tagged[0]
            continue
        if text == "[key]" or "[" in text or text in ("float", "int", "str"):
            continue
        keys.append(text)
        if len(options) == 1 and text in options[0].model_fields:
            parent = options[0]
            current = options[0].model_fields[text].annotation
        elif len(options) == 1 and get_origin(current) is not dict:
            parent, current = options[0], None
        else:
            items = [option for option in get_args(current) if option is not Ellipsis]
            current = items[-1] if get_origin(current) in (dict, list, tuple) else None
    return keys, parent


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's annotation allows at its own level (dict values are a level below)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    origin = get_origin(annotation)
    if origin is Annotated:
        return _models(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [model for option in get_args(annotation) for model in _models(option)]
    return []
