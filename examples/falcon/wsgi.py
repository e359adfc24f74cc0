"""The resources of main.py by WSGI."""

import os

import falcon
from falcon.media.validators import jsonschema

from shop import ITEM, OutOfStock, Stock


class WorkerHeader:
    """A middleware: names the worker in each response."""

    def process_response(self, request, response, resource, succeeded):
        response.set_header("X-Worker", str(os.getpid()))


def wants_key(request, response, resource, params):
    """A hook before a responder."""
    if request.get_header("X-Key") != "open sesame":
        raise falcon.HTTPForbidden(title="Closed", description="X-Key is wanted")


class Index:
    def on_get(self, request, response):
        response.media = {"message": "Hello from mgr", "worker": os.getpid()}


class Items:
    def __init__(self, stock):
        self.stock = stock

    def on_get(self, request, response):
        response.media = self.stock.items

    @jsonschema.validate(ITEM)
    def on_post(self, request, response):
        item = request.get_media()
        self.stock.items[item["name"]] = item["quantity"]
        response.media = item
        response.status = falcon.HTTP_201
        response.location = f"/items/{item['name']}"


class Item:
    def __init__(self, stock):
        self.stock = stock

    def on_get(self, request, response, name):
        response.media = {"name": name, "quantity": self.stock.quantity(name)}

    @falcon.before(wants_key)
    def on_delete(self, request, response, name):
        self.stock.take_all(name)
        response.status = falcon.HTTP_204


class Files:
    def on_post(self, request, response):
        """The parts of a multipart form, each as it arrives."""
        sizes = {}
        for part in request.get_media():
            size = 0
            while data := part.stream.read(65536):
                size += len(data)
            sizes[part.secure_filename] = size
        response.media = sizes
        response.status = falcon.HTTP_201


class Count:
    def on_get(self, request, response, last):
        response.content_type = falcon.MEDIA_TEXT
        response.stream = (f"{number}\n".encode() for number in range(1, last + 1))


class Source:
    def on_get(self, request, response):
        response.content_type = "text/x-python"
        # Falcon hands it to wsgi.file_wrapper: the file goes by sendfile.
        response.stream = open(__file__, "rb")


class Broken:
    def on_get(self, request, response):
        raise RuntimeError("this ends in the log")


def out_of_stock(request, response, error, params):
    raise falcon.HTTPConflict(title="Out of stock", description=f"no {error} is left")


stock = Stock()
application = falcon.App(middleware=[WorkerHeader()])
application.add_error_handler(OutOfStock, out_of_stock)
application.add_route("/", Index())
application.add_route("/items", Items(stock))
application.add_route("/items/{name}", Item(stock))
application.add_route("/files", Files())
application.add_route("/count/{last:int}", Count())
application.add_route("/source", Source())
application.add_route("/broken", Broken())
