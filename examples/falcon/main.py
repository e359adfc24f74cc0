"""A small Falcon application by ASGI: resources, media, an error handler, hooks, server-sent events.

wsgi.py has the same resources by WSGI.
"""

import asyncio
import logging
import os

import falcon
import falcon.asgi
from falcon.media.validators import jsonschema

from shop import ITEM, OutOfStock, Stock

# Falcon logs what a responder raises to its own logger, which is silent until logging is set up.
logging.basicConfig()


class WorkerHeader:
    """A middleware: names the worker in each response."""

    async def process_response(self, request, response, resource, succeeded):
        response.set_header("X-Worker", str(os.getpid()))

    async def process_startup(self, scope, event):
        print("the shop is open", flush=True)

    async def process_shutdown(self, scope, event):
        print("the shop is closed", flush=True)


async def wants_key(request, response, resource, params):
    """A hook before a responder."""
    if request.get_header("X-Key") != "open sesame":
        raise falcon.HTTPForbidden(title="Closed", description="X-Key is wanted")


class Index:
    async def on_get(self, request, response):
        response.media = {"message": "Hello from mgr", "worker": os.getpid()}


class Items:
    def __init__(self, stock):
        self.stock = stock

    async def on_get(self, request, response):
        response.media = self.stock.items

    @jsonschema.validate(ITEM)
    async def on_post(self, request, response):
        item = await request.get_media()
        self.stock.items[item["name"]] = item["quantity"]
        response.media = item
        response.status = falcon.HTTP_201
        response.location = f"/items/{item['name']}"


class Item:
    def __init__(self, stock):
        self.stock = stock

    async def on_get(self, request, response, name):
        response.media = {"name": name, "quantity": self.stock.quantity(name)}

    @falcon.before(wants_key)
    async def on_delete(self, request, response, name):
        self.stock.take_all(name)
        response.status = falcon.HTTP_204


class Files:
    async def on_post(self, request, response):
        """The parts of a multipart form, each as it arrives."""
        sizes = {}
        async for part in await request.get_media():
            size = 0
            async for data in part.stream:
                size += len(data)
            sizes[part.secure_filename] = size
        response.media = sizes
        response.status = falcon.HTTP_201


class Count:
    async def on_get(self, request, response, last):
        async def lines():
            for number in range(1, last + 1):
                yield f"{number}\n".encode()
                await asyncio.sleep(0.01)

        response.content_type = falcon.MEDIA_TEXT
        response.stream = lines()


class Events:
    async def on_get(self, request, response):
        """Server-sent events, until `last` or until the client leaves."""
        last = request.get_param_as_int("last", min_value=1, default=1_000_000)

        async def events():
            for number in range(1, last + 1):
                yield falcon.asgi.SSEvent(event="tick", event_id=str(number), json={"number": number})
                await asyncio.sleep(0.01)

        response.sse = events()


class Broken:
    async def on_get(self, request, response):
        raise RuntimeError("this ends in the log")


async def out_of_stock(request, response, error, params):
    raise falcon.HTTPConflict(title="Out of stock", description=f"no {error} is left")


stock = Stock()
app = falcon.asgi.App(middleware=[WorkerHeader()])
app.add_error_handler(OutOfStock, out_of_stock)
app.add_route("/", Index())
app.add_route("/items", Items(stock))
app.add_route("/items/{name}", Item(stock))
app.add_route("/files", Files())
app.add_route("/count/{last:int}", Count())
app.add_route("/events", Events())
app.add_route("/broken", Broken())
