"""The docstrings of keys: the string below each attribute of the model, read from the source when it is shown.

pydantic can do this itself (``use_attribute_docstrings``), but it does so at every import, and reading the sources
takes longer than all the rest of the configuration.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache

__all__ = ["attribute_docstring"]


def attribute_docstring(model: type, name: str) -> str:
    """The docstring of attribute `name` in the body of class `model`; empty where it has none."""
    return _in_module(model.__module__).get((model.__name__, name), "")


@cache
def _in_module(module: str) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, below in zip(node.body, node.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[node.name, name] = inspect.cleandoc(text)
                case _:
                    pass
    return found
