"""The application's engine and session."""

from __future__ import annotations

import os

from sqlalchemy import create_engine
from sqlalchemy.orm import scoped_session, sessionmaker

engine = create_engine(os.environ["DATABASE_URL"])
Session = scoped_session(sessionmaker(engine))
