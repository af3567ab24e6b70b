"""Resolves names across the modules of a project: follows imports to the module that defines a name."""

from __future__ import annotations

import ast

from elefast.cli.init.source_tree import Module, SourceTree

__all__ = ["Names"]


class Names:
    """The names of all modules.

    Args:
        tree: The files.
    """

    def __init__(self, tree: SourceTree) -> None:
        self._modules = {module.name: module for module in tree.modules if module.name}
        self._reached: dict[str, frozenset[str]] = {}

    def module(self, name: str) -> Module | None:
        """The module of this name."""
        return self._modules.get(name)

    def of(self, module: Module, node: ast.AST) -> str:
        """Resolve `node`, a name or a dotted name, in `module`.

        Returns:
            ``module:name`` of the definition, also outside the project; ``module:`` for a module; empty if nothing
            defines the name. A further attribute of an object that is no module is appended after a dot.
        """
        if isinstance(node, ast.Subscript):
            node = node.value
        if isinstance(node, ast.Name):
            return self._made(module, node.id, frozenset())
        if not isinstance(node, ast.Attribute):
            return ""
        owner = self.of(module, node.value)
        if not owner:
            return ""
        if not owner.endswith(":"):
            return f"{owner}.{node.attr}"
        return self._attribute(owner[:-1], node.attr, frozenset())

    def _made(self, module: Module, name: str, seen: frozenset[tuple[str, str]]) -> str:
        if (module.name, name) in seen:
            return ""
        seen |= {(module.name, name)}
        if name in module.classes or name in module.values:
            return f"{module.name}:{name}"
        if name in module.imports:
            source, colon, attribute = module.imports[name].partition(":")
            return self._attribute(source, attribute, seen) if colon else f"{source}:"
        for source in module.stars:
            inner = self._modules.get(source)
            if inner is not None and (found := self._made(inner, name, seen)):
                return found
        return ""

    def _attribute(self, source: str, name: str, seen: frozenset[tuple[str, str]]) -> str:
        inner = self._modules.get(source)
        if inner is not None and (found := self._made(inner, name, seen)):
            return found
        if f"{source}.{name}" in self._modules:
            return f"{source}.{name}:"
        return f"{source}:{name}"

    def reached(self, name: str) -> frozenset[str]:
        """The modules of the project that importing this one runs, itself among them."""
        if name in self._reached:
            return self._reached[name]
        found: set[str] = set()
        waiting = [name]
        while waiting:
            one = waiting.pop()
            # A package runs before what is in it.
            for part in _with_parents(one):
                if part in self._modules and part not in found:
                    found.add(part)
                    waiting += self._modules[part].imported
        self._reached[name] = frozenset(found)
        return self._reached[name]


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]
