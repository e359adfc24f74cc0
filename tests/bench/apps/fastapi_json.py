from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Item(BaseModel):
    id: int
    name: str
    tags: list[str] = []


@app.get("/items/{id}", response_model=Item)
async def item(id: int, limit: int = 10):
    return Item(id=id, name="a thing", tags=["one", "two"][:limit])
