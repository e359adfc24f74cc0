"""A small FastAPI application: one endpoint for each way in which a framework meets its server."""

import asyncio
import os
import threading
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field


@asynccontextmanager
async def lifespan(app: FastAPI):
    # Each worker has a state of its own: what one request leaves here, another worker does not see.
    yield {"currency": "EUR", "journal": []}


app = FastAPI(title="mgr example")
# FastAPI takes a `lifespan` argument since 0.93; this way works with older ones too.
app.router.lifespan_context = lifespan


class Order(BaseModel):
    item: str = Field(min_length=1)
    quantity: int = Field(gt=0, le=1000)
    price: float = Field(gt=0)


@app.get("/")
async def index():
    return {"message": "Hello from mgr", "worker": os.getpid()}


@app.get("/hello/{name}")
async def hello(name: str, times: int = 1):
    return {"greeting": f"Hello, {name}!" * times}


@app.post("/orders", status_code=201)
async def order(order: Order, request: Request, background: BackgroundTasks):
    background.add_task(request.state.journal.append, f"{order.quantity} x {order.item}")
    return {"total": order.quantity * order.price, "currency": request.state.currency}


@app.get("/journal")
async def journal(request: Request):
    """What the background tasks of this worker have written."""
    return {"worker": os.getpid(), "entries": request.state.journal}


@app.get("/count/{last}")
async def count(last: int):
    async def lines():
        for number in range(1, last + 1):
            yield f"{number}\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(lines(), media_type="text/plain")


@app.get("/thread")
def thread():
    """Not a coroutine: runs in the thread pool, so it may block."""
    return {"main_thread": threading.current_thread() is threading.main_thread()}
