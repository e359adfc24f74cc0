"""One ASGI application with a case for each extension that the tests look at, chosen by the path."""

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


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    await globals()[scope["path"].strip("/").replace("-", "_")](scope, receive, send)
