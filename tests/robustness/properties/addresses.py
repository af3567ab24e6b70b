"""URLs of servers, put together from pieces that are known to be of this machine, or not."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

__all__ = ["FAR", "arguments", "environments", "urls"]

FAR = ("evil", "10.6.6.6", "168167942", "2001:db8", "service=")
"""What everything has in it that leads away from this machine."""

_NEAR = ["", *"localhost 127.0.0.1 127.9.9.9 ::1 [::1] /tmp /var/run/postgresql @x LOCALHOST. a.localhost".split()]
_EVIL = [
    *"evil.example 10.6.6.6 2001:db8::6 [2001:db8::6] localhost.evil.example 127.0.0.1.evil.example evil".split(),
    *"evil.example. ::ffff:10.6.6.6 localhost@evil.example evil.example:5432 evil.example#localhost".split(),
    *"localhost,evil.example ,evil.example evil.example,localhost localhost:1,10.6.6.6:2".split(),
    *"127.0.0.1%evil.example ::1%evil.example 127.0.0.1#evil.example evil.example?localhost".split(),
    *[" evil.example", "localhost evil.example", "localhost\tevil.example", "localhost\nevil.example"],
]
_INSIDE = [
    *"postgresql://evil.example/x host=evil.example hostaddr=10.6.6.6 service=evil host='evil.example'".split(),
    *"postgresql://localhost/x?host=evil.example localhost&host=evil.example".split(),
    "host=localhost hostaddr=10.6.6.6",
]
_hosts = st.sampled_from(_NEAR) | st.sampled_from(_NEAR) | st.sampled_from(_EVIL)
_values = _hosts | st.sampled_from(_INSIDE) | st.sampled_from(["5432", "1,2", "x", "require", "prefer", "5"])
_PLACES = ["host", "hostaddr", "port"]
_NAMES = "service servicefile dsn conninfo unix_sock user password dbname database sslmode ssl options".split()
_MORE = "HOST Host host[] target_session_attrs load_balance_hosts passfile direct_tls sock timeout".split()
_names = st.sampled_from(_PLACES) | st.sampled_from(_NAMES) | st.sampled_from([*_MORE, " host", "x=1 host"])
_SCHEMES = ["", "", "", "+psycopg", "+psycopg2", "+pg8000", "+asyncpg", "+psycopg_async", "+nonsense"]
_USERS = ["", "", "me@", "me:pw@", "me:p@w@", ":@", "evil.example@", "evil.example:5432@", "a/b@", "@"]
_PORTS = ["", "", ":5432", ":", ":0", ":99999", ":5432,5433", ":x", ":²"]
_DATABASES = ["", "/", "/x", "//evil.example/x", "/x@evil.example", "/postgresql://evil.example"]


def _everything(text: str) -> str:
    return quote(text, safe="")


def _little(text: str) -> str:
    return quote(text, safe="/:,@[]")


@st.composite
def urls(draw: st.DrawFn) -> str:
    """A URL that says where to go in any place that a driver might look at."""

    def quoted(text: str) -> str:
        return draw(st.sampled_from([text, _everything(text), _little(text)]))

    place = draw(st.sampled_from(_USERS)) + quoted(draw(_hosts)) + draw(st.sampled_from(_PORTS))
    pairs = draw(st.lists(st.tuples(_names, _values), max_size=3))
    query = "&".join(f"{quoted(name)}={quoted(value)}" for name, value in pairs)
    start = f"postgresql{draw(st.sampled_from(_SCHEMES))}://{place}{draw(st.sampled_from(_DATABASES))}"
    return f"{start}?{query}" if query else start


_odd = st.none() | st.just(168167942) | st.lists(_hosts, max_size=2)  # the number is 10.6.6.6, too
_none: dict[str, Any] = {}
arguments = st.just(_none) | st.dictionaries(_names, _values | _odd, max_size=2)
"""Arguments of a driver."""

_VARIABLES = "PGHOST PGHOSTADDR PGSERVICE PGSERVICEFILE PGPORT PGDATABASE PGUSER PGOPTIONS PGPASSFILE".split()
environments = st.just(dict[str, str]()) | st.dictionaries(
    st.sampled_from(_VARIABLES), _values.filter(bool), max_size=2
)
"""Variables that drivers read."""
