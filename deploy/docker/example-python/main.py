"""The smallest FastAPI application."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/hello/{name}")
async def hello(name: str):
    return {"greeting": f"Hello, {name}!"}
