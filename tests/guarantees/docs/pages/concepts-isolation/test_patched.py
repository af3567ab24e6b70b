from fastapi.testclient import TestClient
from my_app import app
from sqlalchemy import text
from sqlalchemy.orm import Session


def test_the_makers_lead_to_the_test(db_session):
    with TestClient(app) as client:
        client.post("/items/lamp")
        assert client.get("/items").json() == ["lamp"]

def test_the_engine_is_for_sessions(db_session):
    import my_app
    with Session(my_app.engine) as session:
        assert session.scalar(text("SELECT current_database()")) == db_session.scalar(text("SELECT current_database()"))
