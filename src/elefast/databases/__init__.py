"""The databases of one process on one server: created, pooled, reset, dropped, swept and counted.

The room knows servers by their leases, templates by their builder, and connections. It must not know settings, fixtures
or the sessions of tests.

    service = DatabaseService.start(spec, inherited=None, sweeps=True, timeout=30)
    name = service.checkout(test="tests/test_shop.py::test_order")
    engine = service.engine(name)
    ...
    service.release(name, "tests/test_shop.py::test_order")
    service.stop()

`service` is the way in. It takes databases from `pool`, which creates and drops them by `manager`, resets them by
`resetter` and connects to the next one in advance by `preconnect`. `sweeper`, `inventory` and `admin` are for what is
left on a server, and `backend` is for the public servers of `elefast.sync` and `elefast.asyncio`.
"""
