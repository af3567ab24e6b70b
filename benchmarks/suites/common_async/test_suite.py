"""The same tests as in the other suites, for asyncio."""

import asyncio
import os

import pytest
import timing
from models import MODELS
from sqlalchemy import func, select, text

RUN = os.environ["BENCH_RUN"]


@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(int(os.environ["BENCH_TESTS"])))
async def test_it(async_db_session, number):
    with timing.body():
        if async_db_session is not None:
            with timing.first_row():
                assert await async_db_session.scalar(text("SELECT 1")) == 1
            model = MODELS[number % len(MODELS)]
            async_db_session.add(model(name=RUN, amount=number))
            await async_db_session.commit()
            assert await async_db_session.scalar(select(func.count()).where(model.name == RUN)) == 1
        kind, seconds = timing.work()
        if kind == "wait":
            await asyncio.sleep(seconds)
        elif kind == "compute":
            timing.compute(seconds)
