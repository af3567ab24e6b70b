from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker


class Base(DeclarativeBase):
    pass

class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

engine = create_engine("postgresql+psycopg://me@127.0.0.1:1/precious")
SessionLocal = sessionmaker(engine)
app, async_app = FastAPI(), FastAPI()

def get_session():
    with SessionLocal() as session:
        yield session

async def get_async_session():
    raise NotImplementedError

@app.post("/items/{name}")
def add(name: str, session: Session = Depends(get_session)):
    session.add(Item(name=name))
    session.commit()

@app.get("/items")
def names(session: Session = Depends(get_session)):
    return session.scalars(select(Item.name)).all()

@async_app.post("/items/{name}")
async def add_async(name: str, session: AsyncSession = Depends(get_async_session)):
    session.add(Item(name=name))
    await session.commit()

@async_app.get("/items")
async def names_async(session: AsyncSession = Depends(get_async_session)):
    return (await session.scalars(select(Item.name))).all()
