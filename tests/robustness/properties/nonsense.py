"""SQL scripts of which nobody knows what they mean, if anything."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["odd_scripts", "wrong_scripts"]

# Pieces that mean nothing together. Around COPY are statements that mean something, because psql takes for data what
# follows an empty one, or one that has COPY for its first word only. A backslash is only followed by what is no command
# of psql's that does anything.
_PIECES = st.sampled_from(
    [
        *"' '' \" \"\" $ $$ $a$ $a a$ $1 $🐘$ é 🐘 -- /* */ / * - E' e' U&' U&\" N' b' x' E _ 1 1.5 1e5 0x1f".split(),
        *"a a1 . + = :: ( ) [ ] , ; ; ; \\\\ \\' \\n \\ '\\' E'\\'' $$;$$ $a$;$a$ ';' \";\" /*;*/ select".split(),
        *"create or replace function procedure table begin atomic end case when begin; commit;".split(),
        *["' '", "'\r'", "'--\r \t'", "E'\n'\\'", "b'\r'\\'"],
        *[" ", " ", "\n", "\n", "\r\n", "\r", "\t", "\f", "\u00a0", "\x1c", "\u2028", "--;\n", "\n\\restrict x';\n"],
        *["create function f()", "CREATE OR REPLACE PROCEDURE p() ", " BEGIN ", " END;"],
        "\nset standard_conforming_strings = off;\n",
        "\nset standard_conforming_strings = on;\n",
        "\nselect;copy t from stdin;\n1\n\\.\nselect;",
        "\nselect;copy t from stdin;select 2;\r\n1'\r\n\\.\r\n",
    ]
)
_STARTS = st.sampled_from(["", "", "set standard_conforming_strings = off;\n"])
odd_scripts = st.tuples(_STARTS, st.lists(_PIECES, max_size=30).map("".join)).map("".join)
"""Pieces of quoting."""

_BYTES = st.sampled_from(
    [b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", "ü".encode("latin-1"), "é".encode(), "🐘".encode(), b"\xed\xa0\x80"]
)
_STATEMENTS = st.sampled_from(
    [
        *(f"SET client_encoding = '{name}';" for name in ("LATIN1", "SQL_ASCII", "UTF8", "EUC_TW", "SJIS", "nonsense")),
        "SELECT 'é🐘';",
        "SELECT 1;",
        "COPY written (value) FROM stdin;\né🐘\n\\.\n",
        "COPY written TO stdout;",
        "COPY nothing FROM stdin;\n1\n\\.\n",
        "BEGIN;",
        "COMMIT;",
        "ROLLBACK;",
        "SELECT pg_terminate_backend(pg_backend_pid());",
        "SELECT 1/0;",
        "nonsense;",
        "DO $$ BEGIN RAISE EXCEPTION '%s %', E'a\\nb' USING HINT = 'é', DETAIL = 'x'; END $$;",
        "FETCH ALL FROM nothing;",
        "\\connect other",
        "PREPARE a AS SELECT 1; EXECUTE a;",
        "LISTEN a; NOTIFY a, 'b';",
        "SELECT $1;",
        "SELECT '%s', '%(a)s', ':a', '{}';",
        "SET search_path TO nowhere;",
        "SET ROLE nobody_here;",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; CREATE TABLE x ();",
        "SET statement_timeout = 1; SELECT pg_sleep(1);",
    ]
).map(str.encode)
wrong_scripts = st.lists(_BYTES | _STATEMENTS | _PIECES.map(str.encode), max_size=12).map(b"".join)
"""Statements that are right or wrong, with bytes and pieces of quoting between them."""
