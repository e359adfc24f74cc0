"""Plain WSGI with what the tests need; /echo/ID is the path under load."""

import os
import time


def answer(start_response, body):
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def echo(environ, start_response):
    return answer(start_response, b"echo " + environ["PATH_INFO"].encode("latin-1"))


def pid(environ, start_response):
    return answer(start_response, b"%d" % os.getpid())


def slow(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"]))
    return answer(start_response, b"slow")


def post(environ, start_response):
    size = 0
    while block := environ["wsgi.input"].read(65536):
        size += len(block)
    return answer(start_response, b"got %d" % size)


def stream(environ, start_response):
    start_response("200 OK", [])
    for number in range(int(environ["QUERY_STRING"])):
        yield b"part %d\n" % number


def die(environ, start_response):
    os._exit(7)


ROUTES = {"/pid": pid, "/slow": slow, "/post": post, "/stream": stream, "/die": die}


def app(environ, start_response):
    return ROUTES.get(environ["PATH_INFO"], echo)(environ, start_response)
