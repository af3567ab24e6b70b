"""Snapshots of the objects that all databases of a server share, to detect tests that change them.

Roles, tablespaces, replication slots and origins, settings, rights to set parameters, comments and security labels of
shared objects belong to no database, so a database for each test does not isolate them. This module only reads them.
"""

from __future__ import annotations

from collections.abc import Set

from sqlalchemy import Connection

from elefast.postgres.names import Name
from elefast.postgres.roles import MARK_START
from elefast.postgres.sql import prepared_rows

__all__ = ["snapshot"]

# The shared catalogs (see "shared relations" in PostgreSQL's bki.sgml), as far as every role may read them.
# Predefined roles, "pg_...", are left out. A membership is listed with the role that is the member.
_OWN_ROLE = "role of elefast's"
_SHARED_OBJECTS = rf"""
    select case when shobj_description(oid, 'pg_authid') like '{MARK_START}%' then 'role of elefast''s' else 'role' end,
           rolname::text, '',
           md5(concat_ws('|', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
                         rolbypassrls, rolconnlimit, rolvaliduntil, rolconfig,
                         (select string_agg(roleid::text, ',' order by roleid)
                          from pg_auth_members where member = pg_roles.oid)))
    from pg_roles where rolname !~ '^pg_'
    union all
    select 'tablespace', spcname::text, '', concat_ws('|', spcacl, spcoptions) from pg_tablespace
    union all
    select 'prepared transaction', gid, database::text, '' from pg_prepared_xacts
    union all
    select 'replication slot', slot_name::text, coalesce(database, '')::text, '' from pg_replication_slots
    where not temporary
    union all
    select 'subscription', subname::text, coalesce(datname, '')::text, ''
    from pg_subscription left join pg_database d on d.oid = subdbid
    union all
    select 'settings of all databases, ALTER ROLE ALL', '', '', setconfig::text
    from pg_db_role_setting where setdatabase = 0 and setrole = 0
    union all
    select 'database', datname::text, datname::text,
           md5(concat_ws('|', datdba, datistemplate, datallowconn, datconnlimit, dattablespace, datacl,
                         (select string_agg(setrole || setconfig::text, ',' order by setrole)
                          from pg_db_role_setting where setdatabase = d.oid),
                         shobj_description(d.oid, 'pg_database')))
    from pg_database d
    union all
    select 'replication origin', roname, '', '' from pg_replication_origin
    union all
    select 'comment on a role or tablespace', coalesce(rolname, spcname)::text, '', md5(description)
    from pg_shdescription left join pg_roles r on classoid = 'pg_authid'::regclass and r.oid = objoid
                          left join pg_tablespace t on classoid = 'pg_tablespace'::regclass and t.oid = objoid
    where classoid <> 'pg_database'::regclass and description not like '{MARK_START}%'
    union all
    select 'security label of a shared object', classoid::regclass::text || ' ' || objoid || ' ' || provider,
           coalesce((select datname from pg_database d where classoid = 'pg_database'::regclass and d.oid = objoid), '')
           ::text, md5(label)
    from pg_shseclabel
"""

# PostgreSQL 15 and later.
_PARAMETERS = r"""
    select 'rights to set a parameter, GRANT ON PARAMETER', parname, '', md5(paracl::text) from pg_parameter_acl
"""

# The settings that ALTER SYSTEM wrote. The view pg_file_settings has them as well, but reads all of the server's files.
_ALTER_SYSTEM = r"""
    select 'setting of the server, ALTER SYSTEM', split_part(line, ' = ', 1), '', md5(line)
    from regexp_split_to_table(pg_read_file('postgresql.auto.conf', 0, 1000000, true), E'\\n') line
    where line ~ '^[a-z]'
"""


def snapshot(
    connection: Connection, *, system: bool, parameters: bool, known_roles: Set[str] = frozenset()
) -> dict[str, str]:
    """The shared objects of the server.

    Args:
        connection: To any database of the server.
        system: Include settings that ``ALTER SYSTEM`` wrote, which only a superuser may read.
        parameters: Include rights to set parameters, which PostgreSQL has from version 15 on.
        known_roles: The roles that elefast has created for this project. Other runs create and drop others meanwhile.

    Returns:
        For each object its kind and name, and a text that changes if the object changes.
    """
    found: dict[str, str] = {}
    query = "union all".join(
        [_SHARED_OBJECTS, *([_PARAMETERS] if parameters else []), *([_ALTER_SYSTEM] if system else [])]
    )
    for kind, name, database, value in prepared_rows(connection, query):
        # A slot, subscription or prepared transaction in a database of elefast's is dropped with the database.
        if database and Name.parse(database) is not None:
            continue
        if kind == _OWN_ROLE:
            if name not in known_roles:
                continue
            kind = "role"
        found[f'{kind} "{name}"' if name else kind] = value
    return found
