"""The JSON schema of a config, for editors that complete and check TOML."""

from typing import Any

from pydantic import BaseModel

from ctsa.flows import Solver

from .analyses import ANALYSES
from .config import Axis, Output, Sweep, _Top, check_solver
from .making import FIELDS, LAYERS, field_class, layer_class
from .matrices import MATRICES
from .tokens import TOKENS


def schema() -> dict[str, Any]:
    """Return the JSON schema of the files that ``ctsa.runs.read_config`` reads.

    It is built of the classes that check a file, so that what it allows and what they allow is the same but for what only a
    whole file shows, such as sizes that do not fit.

    Example:
        >>> from ctsa.runs.schema import schema
        >>> sorted(schema()["properties"])[:3]
        ['backend', 'basins', 'compare']
    """
    found = _Top.model_json_schema()
    found.pop("$defs", None)
    properties = found["properties"]
    fields = {"oneOf": [_kind(field_class(kind), kind, kind == "SelfAttention") for kind in FIELDS]}
    properties["field"] = {"anyOf": [fields, {"type": "array", "items": fields, "minItems": 1}]}
    properties["layer"] = {"oneOf": [_kind(layer_class(kind), kind, kind == "EulerLayer") for kind in LAYERS]}
    properties["tokens"] = {"oneOf": [_kind(cls, kind, kind == "uniform") for kind, (cls, _) in TOKENS.items()]}
    properties["solver"] = _of(check_solver())
    for name, analysis in ANALYSES.items():
        properties[name] = {**_of(analysis.settings), "description": analysis.asks}
    properties.pop("continue_", None)
    sweep = _of(Sweep)
    values = {"anyOf": [{"type": "array", "minItems": 1}, _of(Axis)]}
    sweep["properties"]["axes"] = {"type": "object", "additionalProperties": values, "minProperties": 1}
    properties["sweep"], properties["output"] = sweep, _of(Output)
    found |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A run of ctsa"}
    found["description"] = f"Matrices by name: {', '.join(MATRICES)}. Solvers: as for {Solver.__name__}."
    return found


def _kind(cls: type[BaseModel], kind: str, default: bool) -> dict[str, Any]:
    found = _of(cls)
    found["title"] = kind
    found["properties"]["kind"] = {"const": kind, **({"default": kind} if default else {})}
    required = [name for name in found.get("required", []) if name != "kind"]
    found["required"] = required if default else [*required, "kind"]
    return found


def _of(cls: type[BaseModel]) -> dict[str, Any]:
    found = cls.model_json_schema()
    definitions = found.pop("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, dict):
            if "$ref" in part:
                return inlined(definitions[part["$ref"].rpartition("/")[2]])
            return {key: inlined(value) for key, value in part.items()}
        return [inlined(value) for value in part] if isinstance(part, list) else part

    return inlined(found)
