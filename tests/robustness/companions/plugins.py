"""The plugins that runs are about here, or the tests themselves, and that no other run of the tests has."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["PLUGINS", "without"]

# That of Faker comes with factory_boy. That of Hypothesis imports it at the end of every run, used or not, which is two
# fifths of what a short run costs.
PLUGINS = ("faker", "hypothesispytest", "pytest_cov", "randomly", "repeat", "rerunfailures", "timeout")


def without(plugins: Sequence[str] = PLUGINS) -> list[str]:
    """The arguments of pytest that leave these plugins out."""
    return [word for name in plugins for word in ("-p", f"no:{name}")]
