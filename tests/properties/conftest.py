"""What properties are tried with."""

from __future__ import annotations

import tests.properties.effort  # noqa: F401  before any test takes its settings
