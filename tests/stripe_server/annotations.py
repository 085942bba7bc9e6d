"""What the SDK says an object or a request looks like: read from the annotations of its own classes.

`blank` makes an object of them, `problems` holds a JSON value against them. Fields are read from the source, since the
SDK imports what they name for type checkers only.
"""

from __future__ import annotations

import ast
import decimal
import functools
import importlib
import inspect
import sys
import textwrap
from typing import Any

PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float)}


@functools.cache
def fields_of(cls: type) -> dict[str, ast.expr]:
    """Return the annotations of a class, those in quotes read."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(body, ast.ClassDef)
    return {
        node.target.id: _unquoted(node.annotation)
        for node in body.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def object_fields(cls: type) -> dict[str, ast.expr]:
    """Return the fields that an answer holds: all but those of deleted objects and of the class itself."""
    return {name: kind for name, kind in fields_of(cls).items() if name != "deleted" and _head(kind) != "ClassVar"}


def blank(cls: type, **given: Any) -> dict[str, Any]:
    """Return an object of a resource class with the given fields; the others are null, empty or their first choice."""
    fields = object_fields(cls)
    if unknown := set(given) - set(fields):
        raise TypeError(f"{cls.__name__} has no {', '.join(sorted(unknown))}.")
    return {name: given[name] if name in given else _blank_value(kind, cls) for name, kind in fields.items()}


def problems(value: Any, cls: type, path: str = "") -> list[str]:
    """Return what is wrong with an object, against the resource class."""
    path = path or cls.__name__
    if not isinstance(value, dict):
        return [f"{path} is {value!r}, not an object"]
    fields = object_fields(cls)
    found = [f"{path}.{name} is no field of {cls.__name__}" for name in sorted(set(value) - set(fields))]
    found += [f"{path}.{name} is missing" for name in sorted(set(fields) - set(value))]
    for name in set(value) & set(fields):
        found += _value_problems(value[name], fields[name], cls, f"{path}.{name}")
    return found


def parameter_problem(given: Any, kind: ast.expr | None, cls: type, path: str = "") -> str | None:
    """Return what is wrong with the parameters of a request, against the SDK's own: an unknown or a missing name."""
    if kind is not None:
        kind = _without(_without(kind, "NotRequired"), "Optional")
        head = "Union" if isinstance(kind, ast.BinOp) else _head(kind)
        if head == "List" and isinstance(given, list):
            return _first(parameter_problem(each, _argument(kind), cls, f"{path}[{n}]") for n, each in enumerate(given))
        if head == "Union" and isinstance(given, dict | list):
            tried = [parameter_problem(given, each, cls, path) for each in _arguments(kind)]
            # What the object among several kinds misses says more than that the other kinds are no objects.
            return None if None in tried else max(tried, key=lambda each: "Invalid" not in (each or ""))
        if head in ("Dict", "UntypedStripeObject") or not isinstance(given, dict):
            return None
        if head or _name(kind) in PLAIN:
            return f"Invalid object: {path}"
        cls = _named(_name(kind), cls)
    fields = fields_of(cls)
    for name, value in given.items():
        here = f"{path}[{name}]" if path else name
        if name not in fields:
            return f"Received unknown parameter: {here}"
        if problem := parameter_problem(value, fields[name], cls, here):
            return problem
    missing = [name for name, each in fields.items() if _head(each) != "NotRequired" and name not in given]
    return f"Missing required param: {path}[{missing[0]}]." if missing else None


def _first(values: Any) -> Any:
    return next((each for each in values if each), None)


def _unquoted(node: ast.expr) -> ast.expr:
    class Unquote(ast.NodeTransformer):
        def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
            return node if _head(node) == "Literal" else self.generic_visit(node)

        def visit_Constant(self, node: ast.Constant) -> ast.AST:
            if not isinstance(node.value, str):
                return node
            return self.visit(ast.parse(node.value.strip(), mode="eval").body)

    return Unquote().visit(node)


def _head(node: ast.expr) -> str:
    """Return the name before the brackets: "Optional" of `Optional[int]`."""
    return _name(node.value) if isinstance(node, ast.Subscript) else ""


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ast.unparse(node)


def _arguments(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp):  # "Literal['']|int"
        return [*_arguments(node.left), *_arguments(node.right)]
    if _head(node) == "Union":
        assert isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple)
        return node.slice.elts
    return [node]


def _argument(node: ast.expr) -> ast.expr:
    assert isinstance(node, ast.Subscript)
    return node.slice


def _without(node: ast.expr, wrapper: str) -> ast.expr:
    return _argument(node) if _head(node) == wrapper else node


def _choices(node: ast.expr) -> list[Any]:
    return list(ast.literal_eval(ast.Tuple(elts=_flat(_argument(node)), ctx=ast.Load())))


def _flat(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


@functools.cache
def _imports(module_name: str) -> dict[str, tuple[str, str]]:
    """Return what a module of the SDK imports, also for type checkers alone: name to (module, name there)."""
    tree = ast.parse(inspect.getsource(sys.modules[module_name]))
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _named(name: str, cls: type) -> type:
    """Return the class that an annotation of `cls` names: one inside it, of its module, or imported there."""
    if isinstance(found := cls.__dict__.get(name), type):
        return found
    module = sys.modules[cls.__module__]
    for outer in cls.__qualname__.split(".")[:-1]:
        module_or_class = getattr(module, outer, None)
        if isinstance(found := getattr(module_or_class, name, None), type):
            return found
    if isinstance(found := getattr(module, name, None), type):
        return found
    where, there = _imports(cls.__module__)[name]
    return getattr(importlib.import_module(where), there)


def _blank_value(kind: ast.expr, cls: type) -> Any:
    head = _head(kind)
    if head == "Optional":
        return None
    if isinstance(kind, ast.BinOp) or head == "Union":
        return _blank_value(_arguments(kind)[0], cls)
    if head == "List":
        return []
    if head in ("Dict", "UntypedStripeObject"):
        return {}
    if head == "ListObject":
        return {"object": "list", "data": [], "has_more": False, "url": ""}
    if head == "Literal":
        return _choices(kind)[0]
    if head == "ExpandableField":
        return ""
    name = _name(kind)
    if name == "Decimal":
        return "0"
    if name in PLAIN:
        return {"str": "", "int": 0, "bool": False, "float": 0}[name]
    return blank(_named(name, cls))


def _value_problems(value: Any, kind: ast.expr, cls: type, path: str) -> list[str]:
    head = _head(kind)
    if head == "Optional":
        return [] if value is None else _value_problems(value, _argument(kind), cls, path)
    if isinstance(kind, ast.BinOp) or head == "Union":
        tried = [_value_problems(value, each, cls, path) for each in _arguments(kind)]
        return [] if [] in tried else tried[0]
    if head == "List":
        if not isinstance(value, list):
            return [f"{path} is {value!r}, not a list"]
        return [
            found
            for n, each in enumerate(value)
            for found in _value_problems(each, _argument(kind), cls, f"{path}[{n}]")
        ]
    if head in ("Dict", "UntypedStripeObject"):
        return [] if isinstance(value, dict) else [f"{path} is {value!r}, not an object"]
    if head == "ListObject":
        if not isinstance(value, dict) or set(value) != {"object", "data", "has_more", "url"}:
            return [f"{path} is no list object"]
        return [
            found
            for n, each in enumerate(value["data"])
            for found in _value_problems(each, _argument(kind), cls, f"{path}.data[{n}]")
        ]
    if head == "Literal":
        return [] if value in _choices(kind) else [f"{path} is {value!r}, none of {_choices(kind)}"]
    if head == "ExpandableField":
        return [] if isinstance(value, str) and value else [f"{path} is {value!r}, not an id"]
    name = _name(kind)
    if name == "Any":
        return []
    if name == "Decimal":
        try:
            decimal.Decimal(value if isinstance(value, str) else "no number")
        except decimal.InvalidOperation:
            return [f"{path} is {value!r}, not a decimal in quotes"]
        return []
    if name in PLAIN:
        fits = isinstance(value, PLAIN[name]) and (name == "bool") == isinstance(value, bool)
        return [] if fits else [f"{path} is {value!r}, not {name}"]
    return problems(value, _named(name, cls), path)
