"""The database of a test: a private one, or a transaction in a database that the tests of a process share.

These are the two values of the key `isolation`. Both give a checkout with the same attributes: `database.py` has
`DatabaseCheckout`, `transaction.py` has `TransactionCheckout`. `engine_redirect.py` leads an engine of the application
to either of them. This room knows engines, sessions and the service that hands out databases. It must not know pytest
or settings.

    checkout = stack.checkout_transaction("tests/test_items.py::test_add")  # or stack.checkout(...)
    with checkout.sync.session() as session:
        session.add(Item(name="a"))
        session.commit()  # releases a savepoint
    checkout.release()  # rolls back
"""
