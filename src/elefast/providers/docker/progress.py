"""How a pull shows: one bar for all layers on a terminal, a line for each phase anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from elefast.runtime import clock, terminal

__all__ = ["Progress"]

_WIDTH = 24
_STEP = 0.1  # seconds between two drawings of the bar
_LOADING = ("Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull complete")
_DONE = ("Pull complete", "Already exists")


class Progress:
    """Tells people what the engine says about a pull.

    Args:
        reference: The image, as the project wrote it.
        stream: Where it is shown.
        bar: Whether a line may be drawn again and again; without it as the terminal and ``CI`` suggest.
    """

    def __init__(self, reference: str, stream: TextIO, *, bar: bool | None = None) -> None:
        self._reference = reference
        self._stream = stream
        self._bar = terminal.can_draw(stream) if bar is None else bar
        self._began = clock.now()
        self._drawn = 0.0
        self._layers: dict[str, _Layer] = {}
        self.loading = False
        """Whether the registry has begun to give the layers."""
        self._phase = ""
        self._share = 0.0
        # pytest may be in the middle of a line of dots.
        self._line(f"\nelefast: pulling {reference}")

    def event(self, event: Mapping[str, Any]) -> None:
        """Take one line of the engine's stream."""
        status, name = str(event.get("status", "")), str(event.get("id", ""))
        if name and not status.startswith("Pulling from"):
            detail: Mapping[str, Any] | None = event.get("progressDetail")
            self._layers.setdefault(name, _Layer()).take(status, detail or {})
        # The layers are named first, one by one.
        self.loading = self.loading or status in _LOADING
        if not self.loading:
            return
        if self._bar:
            now = clock.now()
            if now - self._drawn >= _STEP:
                self._drawn = now
                self._draw()
        elif self._phase != (phase := self._now()):
            self._phase = phase
            self._line(f"elefast: {phase} {self._reference}, {self._count()}")

    def again(self, why: str, seconds: float, attempt: int, attempts: int) -> None:
        """An attempt failed, and there will be another."""
        self._layers.clear()
        self._phase, self._share = "", 0.0
        self._line(
            f"elefast: pulling {self._reference} failed, again in {seconds:g} s ({attempt} of {attempts}): {why}"
        )

    def pulled(self, identity: str) -> None:
        """The image is there."""
        short = identity.removeprefix("sha256:")[:12]
        self._line(f"elefast: pulled {self._reference} ({short}) in {clock.now() - self._began:.1f} s")

    def failed(self) -> None:
        """No more attempts; the error says the rest."""
        self._line(f"elefast: {self._reference} was not pulled")

    def _now(self) -> str:
        return "downloading" if any(not layer.here for layer in self._layers.values()) else "extracting"

    def _count(self) -> str:
        return f"{len(self._layers)} layer{'s' if len(self._layers) != 1 else ''}"

    def _draw(self) -> None:
        layers = self._layers.values()
        size = sum(layer.total for layer in layers) / 1e6
        # Totals become known one by one: without this the bar would run backwards.
        self._share = max(self._share, sum(layer.share for layer in layers) / len(layers))
        filled = round(self._share * _WIDTH)
        bar = "#" * filled + "." * (_WIDTH - filled)
        self._write(f"\r\x1b[Kelefast: {self._now()} [{bar}] {self._share:4.0%} of {size:.1f} MB in {self._count()}")

    def _line(self, text: str) -> None:
        self._write(f"\r\x1b[K{text.removeprefix(chr(10))}\n" if self._bar and self._layers else f"{text}\n")

    def _write(self, text: str) -> None:
        # Nobody's tests shall fail because nobody reads this any more.
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._bar = False


class _Layer:
    """One layer: first it is downloaded, then extracted, each of which is half of it."""

    def __init__(self) -> None:
        self.total = 0
        self.share = 0.0
        self.here = False

    def take(self, status: str, detail: Mapping[str, Any]) -> None:
        current, total = int(detail.get("current") or 0), int(detail.get("total") or 0)
        self.total = max(self.total, total)
        part = min(current / total, 1.0) / 2 if total > 0 else 0.0
        if status.startswith(_DONE):
            self.share, self.here = 1.0, True
        elif status == "Extracting":
            self.share, self.here = 0.5 + part, True
        elif status == "Download complete":
            self.share, self.here = 0.5, True
        elif status == "Downloading":
            self.share = part
