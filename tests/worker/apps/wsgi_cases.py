"""One WSGI application with a case for each rule that the tests look at, chosen by the path."""

import io
import json
import os
import sys
import tempfile
import threading
import time
from wsgiref.validate import validator

kept = {}  # what earlier requests have left for the tests
closed = threading.Event()


def answer(start_response, value, status="200 OK", headers=()):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    start_response(status, [("Content-Length", str(len(body))), *headers])
    return [body]


class Body:
    """An iterable that remembers what is done to it, under `name`."""

    def __init__(self, name, items):
        self.events = kept[name] = []
        self.items = iter(items)

    def __iter__(self):
        return self

    def __next__(self):
        self.events.append(f"next on {threading.get_ident()}")
        item = next(self.items)
        if callable(item):
            item = item()
        return item

    def close(self):
        self.events.append(f"close on {threading.get_ident()}")


def environ(environ, start_response):
    shown = {key: value for key, value in environ.items() if isinstance(value, (str, bool, tuple))}
    fresh = "spoiled" not in environ
    environ["spoiled"] = True
    return answer(start_response, {
        "environ": shown, "type": type(environ).__name__, "fresh": fresh,
        "types": {key: type(value).__name__ for key, value in environ.items()}})


def thread(environ, start_response):
    return answer(start_response, {"name": threading.current_thread().name,
                                   "main": threading.current_thread() is threading.main_thread()})


def read(environ, start_response):
    """The calls that the query names, separated by '+': read, read3, readline, lines, iter ..."""
    stream, found = environ["wsgi.input"], []
    for call in environ["QUERY_STRING"].split("+"):
        call, _, named = call.partition("=")  # read3, or readsize=3
        name = call.rstrip("0123456789-").removesuffix("size").removesuffix("hint")
        size = [int(call[len(name):])] if call != name and not named else []
        keywords = {call[len(name):]: int(named)} if named else {}
        if name == "iter":
            found.append([line.decode("latin-1") for line in stream])
        else:
            result = getattr(stream, name)(*size, **keywords)
            found.append([line.decode("latin-1") for line in result] if isinstance(result, list)
                         else result.decode("latin-1"))
    return answer(start_response, found)


def count(environ, start_response):
    """Reads in blocks, slowly if the query says so, and counts."""
    size = 0
    while block := environ["wsgi.input"].read(65536):
        size += len(block)
        if environ["QUERY_STRING"]:
            time.sleep(float(environ["QUERY_STRING"]))
    return answer(start_response, size)


def echo(environ, start_response):
    """Sends back each line as it comes."""
    start_response("200 OK", [])
    return iter(environ["wsgi.input"].readline, b"")


def read_fails(environ, start_response):
    case = environ["QUERY_STRING"]
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        kept[f"read-{case}"] = type(error).__mro__[1].__name__
        raise
    kept[f"read-{case}"] = "no error"
    return answer(start_response, "all")


def read_later(environ, start_response):
    kept["input"] = environ["wsgi.input"]
    kept["start_response"] = start_response
    return answer(start_response, "kept")


def use_later(environ, start_response):
    found = []
    for call in (kept["input"].read, lambda: kept["start_response"]("200 OK", [])):
        try:
            found.append(call().decode())
        except (OSError, RuntimeError) as error:
            found.append(type(error).__name__)
    return answer(start_response, found)


def ignore_body(environ, start_response):
    return answer(start_response, "ignored")


def errors(environ, start_response):
    stream = environ["wsgi.errors"]
    stream.write("first ")
    stream.write("line\nsecond ")
    stream.writelines(["line", "\n", "third line\n"])
    stream.write("no end")
    stream.flush()
    return answer(start_response, "written")


BAD = {
    "status is bytes": (b"200 OK", []),
    "status without reason": ("200", []),
    "status is no number": ("ok fine", []),
    "status with a newline": ("200 OK\r\nX: y", []),
    "status is interim": ("100 Continue", []),
    "headers are a tuple": ("200 OK", ()),
    "header is a list": ("200 OK", [["a", "b"]]),
    "header of three": ("200 OK", [("a", "b", "c")]),
    "name is bytes": ("200 OK", [(b"a", "b")]),
    "value is a number": ("200 OK", [("a", 1)]),
    "name with a space": ("200 OK", [("a b", "c")]),
    "name with a colon": ("200 OK", [("a:", "c")]),
    "empty name": ("200 OK", [("", "c")]),
    "value with a newline": ("200 OK", [("a", "b\r\nc: d")]),
    "value with a tab": ("200 OK", [("a", "b\tc")]),
    "value beyond latin-1": ("200 OK", [("a", "\u20ac")]),
    "name beyond latin-1": ("200 OK", [("\u20ac", "b")]),
    "status beyond latin-1": ("200 \u20ac", []),
    "hop-by-hop": ("200 OK", [("Connection", "close")]),
    "transfer coding": ("200 OK", [("transfer-encoding", "chunked")]),
    "bad length": ("200 OK", [("Content-Length", "-1")]),
    "two lengths": ("200 OK", [("Content-Length", "1"), ("content-length", "1")]),
}


def bad_heads(environ, start_response):
    found = {}
    for name, (status, headers) in BAD.items():
        try:
            start_response(status, headers)
            found[name] = "accepted"
        except Exception as error:
            found[name] = type(error).__name__
            if "latin-1" in name:
                kept[f"refused-{name.split()[0]}"] = str(error)
    return answer(start_response, found)


def head_kept_back(environ, start_response):
    """Empty items; then another head takes the first one's place."""
    start_response("200 OK", [("X-Head", "first")])
    yield b""
    yield b""
    try:
        raise KeyError("too late")
    except KeyError:
        start_response("404 Gone Astray", [("X-Head", "second")], sys.exc_info())
    yield b"replaced"


def twice(environ, start_response):
    start_response("200 OK", [])
    try:
        start_response("200 OK", [])
    except Exception as error:
        return [type(error).__name__.encode()]


def raised_again(environ, start_response):
    start_response("200 OK", [])
    yield b"sent"
    try:
        raise KeyError("after the head")
    except KeyError:
        try:
            start_response("500 No", [], exc_info=sys.exc_info())
        except KeyError as error:
            kept["raised"] = str(error)
            raise


def late_start(environ, start_response):
    start_response("201 Created", [("X-Late", "yes")])
    yield b"late"


def no_start(environ, start_response):
    return [b"no head"]


def write(environ, start_response):
    put = start_response("200 OK", [])
    put(b"written, ")
    put(b"")
    put(b"twice, ")
    return [b"and ", b"returned"]


def write_too_much(environ, start_response):
    put = start_response("200 OK", [("Content-Length", "3")])
    put(b"abc")
    try:
        put(b"d")
    except RuntimeError as error:
        kept["write"] = str(error)
    return []


release = threading.Event()


def one_by_one(environ, start_response):
    """The second item is made when the client has confirmed the first."""
    start_response("200 OK", [])
    release.clear()
    yield b"first "
    kept["waited"] = release.wait(10)
    yield b"second"


def go_on(environ, start_response):
    release.set()
    return answer(start_response, "going on")


def items(environ, start_response):
    start_response("200 OK", [])
    return [b"a", b"", b"bc", b""]


def text_items(environ, start_response):
    start_response("200 OK", [])
    return ["text"]


def returns_none(environ, start_response):
    start_response("200 OK", [])


def tracked(environ, start_response):
    kind = environ["QUERY_STRING"]
    start_response("200 OK", [])
    if kind == "raises":
        def fail():
            raise ValueError("in the body")
        return Body(kind, [b"begun", fail])
    if kind == "endless":
        return Body(kind, (b"x" * 65536 for _ in range(1 << 30)))
    return Body(kind, [b"a", b"b"])


def state(environ, start_response):
    return answer(start_response, kept.get(environ["QUERY_STRING"]))


def pid(environ, start_response):
    return answer(start_response, os.getpid())


def length(environ, start_response):
    """?LENGTH,ITEM,ITEM…"""
    said, *parts = environ["QUERY_STRING"].split(",")
    start_response("200 OK", [("Content-Length", said)] if said else [])
    kept["after"] = False

    def body():
        for part in parts:
            yield part.encode()
        kept["after"] = True
    return body()


class Sized:
    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __iter__(self):
        return iter(self.items)


def sized(environ, start_response):
    start_response("200 OK", [])
    return Sized(b"sized")


def status(environ, start_response):
    start_response(environ["QUERY_STRING"] + " Whatever It Is", [("X-Own", "\xe9"), ("Date", "mine")])
    return [b"a body"]


def large(environ, start_response):
    """?SIZE,ITEMS"""
    size, items = map(int, environ["QUERY_STRING"].split(","))
    start_response("200 OK", [])
    return Body("large", [b"x" * size] * items) if items != 1 else OneItem(size)


class OneItem(Sized):
    def __init__(self, size):
        kept["one-item"] = []
        super().__init__(b"x" * size)

    def close(self):
        kept["one-item"].append(threading.get_ident())


def file(environ, start_response):
    """?KIND"""
    kind = environ["QUERY_STRING"]
    data = b"0123456789" * 100000
    plain = tempfile.NamedTemporaryFile()
    plain.write(data)
    plain.flush()
    headers = []
    if kind == "tail":
        plain.seek(999990)
    elif kind == "length":
        plain.seek(5)
        headers = [("Content-Length", "3")]
    elif kind == "short":
        headers = [("Content-Length", "1000001")]
        plain.seek(0)
    elif kind == "buffered":
        plain.seek(0)
        plain.read(3)  # the descriptor is much further than that
    elif kind == "empty":
        pass  # at its end
    else:
        plain.seek(0)
    source = io.BytesIO(data) if kind == "no-descriptor" else plain
    start_response("200 OK", headers)
    wrapper = environ["wsgi.file_wrapper"](Closing(source) if kind == "foreign" else source, 8192)
    kept["file"] = source
    return Middleware(wrapper) if kind == "middleware" else wrapper


class Closing:
    def __init__(self, source):
        self.read = source.read
        self.close = source.close


class Middleware:
    def __init__(self, inner):
        self.inner = inner
        self.close = inner.close

    def __iter__(self):
        return (block.translate(bytes.maketrans(b"0", b"o")) for block in self.inner)


def file_closed(environ, start_response):
    return answer(start_response, kept["file"].closed)


def raises(environ, start_response):
    raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt,
           "ValueError": ValueError}[environ["QUERY_STRING"]]("on purpose")


def raises_late(environ, start_response):
    start_response("200 OK", [("Content-Length", "100")])
    yield b"begun"
    raise ValueError("in the middle")


def raises_in_close(environ, start_response):
    class Bad(Body):
        def close(self):
            raise ValueError("in close")
    start_response("200 OK", [])
    return Bad("bad close", [b"fine"])


def slow(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"]))
    return answer(start_response, "slept")


def computes(environ, start_response):
    end = time.thread_time() + float(environ["QUERY_STRING"])
    while time.thread_time() < end:
        pass
    return answer(start_response, "computed")


def runs_a_loop(environ, start_response):
    import asyncio
    return answer(start_response, asyncio.run(asyncio.sleep(0, "from a coroutine")))


@validator
def valid(environ, start_response):
    size = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(size)
    environ["wsgi.errors"].write("valid\n")
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"valid: ")
    return [body, b".", environ["wsgi.input"].read(1)]


def missing(environ, start_response):
    return answer(start_response, "no such case", "404 Not Found")


def app(environ, start_response):
    case = globals().get(environ["PATH_INFO"].split("/")[1].replace("-", "_"), missing)
    return case(environ, start_response)
