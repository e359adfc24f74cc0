"""One ASGI application with a case for each extension that the tests look at, chosen by the path."""

import asyncio
import os
import tempfile

START = {"type": "http.response.start", "status": 200}


async def announced(scope, receive, send):
    body = repr(scope["extensions"]).encode()
    scope["extensions"].clear()
    await send(START)
    await send({"type": "http.response.body", "body": body})


async def raised_by(send, *messages):
    """The exceptions' names."""
    names = []
    for message in messages:
        try:
            await send(message)
            names.append(None)
        except Exception as error:
            names.append(type(error).__name__)
    return names


# ---- early hints

def hint(*links):
    return {"type": "http.response.early_hint", "links": links}


async def hints(scope, receive, send):
    await send(START)
    await send(hint(b"</a.css>; rel=preload", b"</b.js>; rel=preload"))
    await send({**hint(), "links": iter([b"</c.css>; rel=preload"]), "extra": 1})
    await send({"type": "http.response.body", "body": b"hinted"})
    await send(hint(b"</late>"))


async def hint_then_fail(scope, receive, send):
    await send(START)
    await send(hint(b"</a.css>"))
    raise RuntimeError("after the hint")


async def bad_hints(scope, receive, send):
    names = await raised_by(send, {"type": "http.response.early_hint"}, hint("text"),
                            {"type": "http.response.early_hint", "links": 7}, hint(b"a\r\nb: c"))
    await send(START)
    await send({"type": "http.response.body", "body": repr(names).encode()})


# ---- trailers

async def trailers(scope, receive, send):
    await send({**START, "trailers": True, "headers": [(b"trailer", b"x-sum, x-end")]})
    await send({"type": "http.response.body", "body": b"ab", "more_body": True})
    await send({"type": "http.response.body", "body": b"c"})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"3")],
                "more_trailers": True})
    await send({"type": "http.response.trailers", "headers": [(b"x-end", b"1")]})
    await send({"type": "http.response.trailers", "headers": [(b"x-late", b"1")]})


async def trailers_with_length(scope, receive, send):
    await send({**START, "trailers": True, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"abc"})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"3")]})


async def trailers_missing(scope, receive, send):
    await send({**START, "trailers": True})
    await send({"type": "http.response.body", "body": b"abc"})


async def trailers_out_of_order(scope, receive, send):
    trailer = {"type": "http.response.trailers", "headers": []}
    names = await raised_by(send, trailer)
    await send({**START, "trailers": True})
    names += await raised_by(send, trailer)
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    names += await raised_by(send, trailer)
    await send({"type": "http.response.body", "body": repr(names).encode()})
    names = await raised_by(send, {"type": "http.response.body", "body": b"more"},
                            {"type": "http.response.trailers", "headers": [("text", b"")]},
                            {"type": "http.response.trailers", "headers": [(b"a\n", b"")]})
    await send({"type": "http.response.trailers", "headers": [(b"x-raised", repr(names).encode())]})


async def trailers_not_announced(scope, receive, send):
    await send(START)
    names = await raised_by(send, {"type": "http.response.trailers", "headers": []})
    await send({"type": "http.response.body", "body": repr(names).encode()})


# ---- files

PIECE = b"0123456789abcdef"
BIG = 3_000_000
HUGE = 64 << 20
results = {}


def a_file(content):
    """Its path; the test's directory is the current one."""
    with tempfile.NamedTemporaryFile(dir=".", delete=False) as file:
        file.write(content)
    return os.path.abspath(file.name)


async def path(scope, receive, send):
    name = a_file(PIECE * 10)
    await send({**START, "headers": [(b"content-type", b"text/x-test"), (b"content-length", b"160")]})
    await send({"type": "http.response.pathsend", "path": name})
    os.unlink(name)
    await send({"type": "http.response.body", "body": b"ignored after the end"})


async def path_without_length(scope, receive, send):
    await send(START)
    await send({"type": "http.response.pathsend", "path": a_file(PIECE)})


async def empty_path(scope, receive, send):
    await send(START)
    await send({"type": "http.response.pathsend", "path": a_file(b"")})


async def huge_path(scope, receive, send):
    """More than the buffers of any socket take."""
    name = a_file(b"")
    os.truncate(name, HUGE)
    await send(START)
    await send({"type": "http.response.pathsend", "path": name})
    os.unlink(name)
    results["huge"] = "sent"


async def path_and_a_wait(scope, receive, send):
    await receive()
    waiting = asyncio.create_task(receive())
    await asyncio.sleep(0)
    await send(START)
    await send({"type": "http.response.pathsend", "path": a_file(PIECE * (BIG // 16))})
    results["after"] = (await asyncio.wait_for(waiting, 10))["type"]


async def result(scope, receive, send):
    await send(START)
    body = str(results.pop(scope["query_string"].decode(), "")).encode()
    await send({"type": "http.response.body", "body": body})


async def bad_paths(scope, receive, send):
    def sending(name):
        return {"type": "http.response.pathsend", "path": name}
    os.mkfifo("fifo")
    names = await raised_by(send, sending(a_file(b"before the start")))
    await send({**START, "headers": [(b"content-length", b"16")]})
    names += await raised_by(
        send, {"type": "http.response.pathsend"}, sending(b"/bytes"), sending("relative"),
        sending("/nowhere/at/all"), sending("/"), sending(os.path.abspath("fifo")),
        sending("/with\0zero"), sending(a_file(PIECE * 2)), sending(a_file(b"short")))
    results["raised"] = names
    await send({"type": "http.response.pathsend", "path": a_file(PIECE)})


async def path_after_body(scope, receive, send):
    await send(START)
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    names = await raised_by(send, {"type": "http.response.pathsend", "path": a_file(PIECE)})
    await send({"type": "http.response.body", "body": repr(names).encode()})


async def path_with_trailers(scope, receive, send):
    await send({**START, "trailers": True})
    await send({"type": "http.response.pathsend", "path": a_file(PIECE)})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"3")]})


async def zero_copy(scope, receive, send):
    """Parts of files, mixed with bodies; the last one is closed at once."""
    with open(a_file(PIECE * 2), "rb", buffering=0) as file:
        await send(START)
        await send({"type": "http.response.body", "body": b"<", "more_body": True})
        await send({"type": "http.response.zerocopysend", "file": file, "offset": 30, "more_body": True})
        await send({"type": "http.response.zerocopysend", "file": file, "count": 4, "more_body": True})
        await send({"type": "http.response.zerocopysend", "file": file, "count": 3, "more_body": True})
        results["position"] = file.tell()
        await send({"type": "http.response.body", "body": b"|", "more_body": True})
        await send({"type": "http.response.zerocopysend", "file": file.fileno(), "offset": 10,
                    "count": 2, "more_body": True})
        await send({"type": "http.response.zerocopysend", "file": file, "offset": 31, "count": 99})
    await send({"type": "http.response.body", "body": b"ignored after the end"})


async def zero_copy_big(scope, receive, send):
    name = a_file(PIECE * (BIG // 16))
    await send({**START, "headers": [(b"content-length", b"%d" % (2 * BIG + 3))]})
    for _ in range(2):
        with open(name, "rb") as file:
            await send({"type": "http.response.zerocopysend", "file": file, "more_body": True})
    await send({"type": "http.response.body", "body": b"end"})


async def zero_copy_until_lost(scope, receive, send):
    name = a_file(PIECE * (BIG // 16))
    await send(START)
    try:
        while True:
            with open(name, "rb") as file:
                await send({"type": "http.response.zerocopysend", "file": file, "more_body": True})
    except OSError as error:
        results["lost"] = type(error).__name__
        raise


async def bad_zero_copies(scope, receive, send):
    def sending(file, **named):
        return {"type": "http.response.zerocopysend", "file": file, **named}
    reading, writing = os.pipe()
    with open(a_file(PIECE), "rb") as file:
        names = await raised_by(send, sending(file))
        await send(START)
        names += await raised_by(
            send, {"type": "http.response.zerocopysend"}, sending("text"), sending(file, offset=-1),
            sending(file, count=-1), sending(file, offset="1"), sending(reading), sending(999))
    os.close(reading), os.close(writing)
    await send({"type": "http.response.body", "body": repr(names).encode()})


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    await globals()[scope["path"].strip("/").replace("-", "_")](scope, receive, send)
