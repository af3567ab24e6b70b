"""What all databases of a server share, by name, so that two looks can be compared.

Roles, tablespaces, replication slots and settings belong to no database, so a private one does not keep them apart.
None of it bears a mark of elefast's, so none of it is changed here.
"""

from __future__ import annotations

from sqlalchemy import Connection

from elefast.kernel.names import Name
from elefast.kernel.sql import repeated

__all__ = ["look"]

# The catalogs that are shared, see "shared relations" in PostgreSQL's bki.sgml, as far as everybody may read them.
# A prepared transaction and a subscription of a test's own database go with it. Those that PostgreSQL is born with,
# "pg_...", come with its version. Memberships are of the role that is the member.
_LOOK = r"""
    select 'role', rolname::text, '',
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
    select 'database', datname::text, datname::text, '' from pg_database where datname !~ '^template[01]$'
"""

# What ALTER SYSTEM wrote; the view pg_file_settings has it as well, but reads all of the server's files for it.
_SYSTEM = r"""
    select 'setting of the server, ALTER SYSTEM', split_part(line, ' = ', 1), '', md5(line)
    from regexp_split_to_table(pg_read_file('postgresql.auto.conf', 0, 1000000, true), E'\\n') line
    where line ~ '^[a-z]'
"""


def look(connection: Connection, *, system: bool) -> dict[str, str]:
    """What databases share now: a name that says what it is, and a text that differs where the thing does.

    Args:
        connection: To any database of the server.
        system: Whether to read what ``ALTER SYSTEM`` wrote as well, which only a superuser may.
    """
    found: dict[str, str] = {}
    for kind, name, database, value in repeated(connection, _LOOK + ("union all" + _SYSTEM if system else "")):
        # What is in a database of elefast's own goes with it.
        if database and Name.parse(database) is not None:
            continue
        found[f'{kind} "{name}"' if name else kind] = value
    return found
