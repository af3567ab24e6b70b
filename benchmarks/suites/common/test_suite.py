"""The tests of every suite: each writes and reads one row of one table, in the session that the suite's tool gives."""

import os
import time

import pytest
import timing
from models import MODELS
from sqlalchemy import func, select, text

RUN = os.environ["BENCH_RUN"]


@pytest.mark.parametrize("number", range(int(os.environ["BENCH_TESTS"])))
def test_it(db_session, number):
    with timing.body():
        if db_session is not None:
            with timing.first_row():
                assert db_session.scalar(text("SELECT 1")) == 1
            model = MODELS[number % len(MODELS)]
            db_session.add(model(name=RUN, amount=number))
            db_session.commit()
            assert db_session.scalar(select(func.count()).where(model.name == RUN)) == 1
        kind, seconds = timing.work()
        if kind == "wait":
            time.sleep(seconds)
        elif kind == "compute":
            timing.compute(seconds)
