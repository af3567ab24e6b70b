"""Three products. Their ids are facts, which tests read."""

from __future__ import annotations

from tests.factories import ProductFactory


def fill() -> dict[str, int]:
    """The factories use the application's session; elefast commits what it leaves open."""
    tea, _, sold_out = ProductFactory(name="tea"), ProductFactory(name="cake"), ProductFactory(name="jam", stock=0)
    return {"tea": tea.id, "sold_out": sold_out.id}
