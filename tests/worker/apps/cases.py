"""One ASGI application with a case for each rule that the tests look at, chosen by the path."""

import asyncio
import contextvars
import json
import sys
import threading

seen = contextvars.ContextVar("seen", default=None)
state_of_cases = {}


async def answer(send, value, status=200, headers=()):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    await send({"type": "http.response.start", "status": status,
                "headers": [(b"content-length", b"%d" % len(body)), *headers]})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive):
    body, messages, more = b"", 0, True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        body += message["body"]
        more = message["more_body"]
        messages += 1
    return body, messages


def plain(value):
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value


def types(value):
    return {key: type(each).__name__ for key, each in value.items()}


async def scope(scope, receive, send):
    await answer(send, {"scope": plain(scope), "types": types(scope),
                        "main_thread": threading.current_thread() is threading.main_thread()})


async def scope_is_fresh(scope, receive, send):
    spoiled = "spoiled" in scope or "spoiled" in scope["extensions"] or "x" in scope["asgi"]
    scope["spoiled"] = scope["extensions"]["spoiled"] = scope["asgi"]["x"] = 1
    scope["headers"].clear()
    await answer(send, spoiled)


def foreign(value, where="it"):
    """Where something is of a type that no message may hold."""
    kind = type(value)
    if kind in (bytes, str, float, bool, type(None)) or (kind is int and -2 ** 63 <= value < 2 ** 63):
        return []
    if kind in (list, tuple):
        return [found for index, each in enumerate(value) for found in foreign(each, f"{where}[{index}]")]
    if kind is dict and all(type(key) is str for key in value):
        return [found for key, each in value.items() for found in foreign(each, f"{where}[{key!r}]")]
    return [f"{where}: {kind.__name__}"]


async def only_plain_values(scope, receive, send):
    found = foreign(scope, "scope")
    more = True
    while more:
        message = await receive()
        found += foreign(message, "message")
        more = message["more_body"]
    await answer(send, found)
    state_of_cases["foreign"] = foreign(await receive(), "disconnect")


async def after_the_end(scope, receive, send):
    await answer(send, b"the end")
    raised = []
    for message in ({"type": "http.response.start", "status": 200}, {"type": "http.response.body"},
                    {"type": "http.response.body", "body": b"more", "more_body": True},
                    {"type": "http.response.trailers", "headers": []},
                    {"type": "http.response.early_hint", "links": []}, {"type": "http.no.such"}):
        try:
            raised.append(await send(message))
        except Exception as error:
            raised.append(type(error).__name__)
    state_of_cases["after_the_end"] = raised


async def own_framing(scope, receive, send):
    """Fields that are the server's, in the middle of the application's own."""
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"x-first", b"1"), (b"transfer-encoding", b"gzip, chunked"), (b"x-second", b"2"),
        (b"keep-alive", b"timeout=100"), (b"x-first", b"3")]})
    await send({"type": "http.response.body", "body": b"whole"})


async def bodies_for_the_bodyless(scope, receive, send):
    status = int(scope["query_string"])
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"must not be sent", "more_body": True})
    await send({"type": "http.response.body", "body": b"neither"})


async def overlap(scope, receive, send):
    state_of_cases["active"] = state_of_cases.get("active", 0) + 1
    state_of_cases["most"] = max(state_of_cases.get("most", 0), state_of_cases["active"])
    await asyncio.sleep(0.01)
    state_of_cases["active"] -= 1
    await answer(send, {"most": state_of_cases["most"]})


async def context(scope, receive, send):
    before = seen.get()
    seen.set("set by a request")
    await answer(send, before)


async def task(scope, receive, send):
    current = asyncio.current_task()
    await answer(send, {"is_task": type(current) is asyncio.Task,
                        "listed": current in asyncio.all_tasks(),
                        "coroutine": asyncio.iscoroutine(current.get_coro()),
                        "loop": asyncio.get_running_loop() is asyncio.get_event_loop(),
                        "repr": "Task" in repr(current),
                        "stack": [frame.f_code.co_name for frame in current.get_stack()]})


async def echo(scope, receive, send):
    body, messages = await read_body(receive)
    await answer(send, body, headers=[(b"x-messages", b"%d" % messages)])


async def slow_echo(scope, receive, send):
    size, more = 0, True
    while more:
        await asyncio.sleep(0.001)
        message = await receive()
        size += len(message["body"])
        more = message["more_body"]
    await answer(send, size)


async def no_read(scope, receive, send):
    await answer(send, b"not read")


async def receive_twice(scope, receive, send):
    first = await receive()
    waiting = asyncio.ensure_future(receive())
    await asyncio.sleep(0.01)
    early = waiting.done()
    await answer(send, {"first": plain(first), "early": early})
    state_of_cases["late"] = [await asyncio.wait_for(waiting, 5), await receive()]


async def late(scope, receive, send):
    while "late" not in state_of_cases:
        await asyncio.sleep(0.001)
    await answer(send, state_of_cases.pop("late"))


async def cancelled_receive(scope, receive, send):
    for _ in range(3):
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        waiting.cancel()
        try:
            await waiting
        except asyncio.CancelledError:
            pass
    try:
        await asyncio.wait_for(receive(), 0.02)
    except asyncio.TimeoutError:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"go", "more_body": True})
    body, _ = await read_body(receive)
    await send({"type": "http.response.body", "body": body})


async def concurrent(scope, receive, send):
    waiting = [asyncio.ensure_future(receive()) for _ in range(3)]
    await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200})
    for part in (b"a", b"b", b"c"):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    messages = []
    body = b""
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for each in done:
        messages.append(each.result())
    while not any(not message["more_body"] for message in messages):
        messages.append(await receive())
    body = b"".join(message["body"] for message in messages)
    await send({"type": "http.response.body", "body": body})
    state_of_cases["late"] = [plain(await each) for each in waiting if each not in done]


async def stream(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(5):
        await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
        await asyncio.sleep(0.001)
    await send({"type": "http.response.body"})


async def flood(scope, receive, send):
    """Sends without end until the client is gone; counts what it got rid of."""
    state_of_cases["flood"] = 0
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            state_of_cases["flood"] += 65536
    except OSError as error:
        state_of_cases["flood_error"] = type(error).__name__
        raise


async def flooded(scope, receive, send):
    await answer(send, {"sent": state_of_cases.get("flood"),
                        "error": state_of_cases.get("flood_error")})


async def wait_for_disconnect(scope, receive, send):
    await read_body(receive)
    state_of_cases["waiting"] = True
    message = await receive()
    state_of_cases["disconnect"] = [message["type"], (await receive())["type"]]
    try:
        await send({"type": "http.response.start", "status": 200})
        state_of_cases["send"] = "ok"
    except OSError as error:
        state_of_cases["send"] = type(error).__name__
        raise


async def leave_at_the_end(scope, receive, send):
    await read_body(receive)
    message = await receive()
    state_of_cases["left"] = [message["type"], (await receive())["type"]]


async def answer_after_the_end(scope, receive, send):
    await read_body(receive)
    message = await receive()
    await answer(send, message["type"])


async def state_of(scope, receive, send):
    await answer(send, state_of_cases)


async def raise_before(scope, receive, send):
    raise ValueError("raised before the start")


async def raise_after_start(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ValueError("raised after the start")


async def raise_after_body(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"part", "more_body": True})
    raise ValueError("raised after a part")


async def return_early(scope, receive, send):
    return None


async def return_after_start(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def return_after_part(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"part", "more_body": True})


async def system_exit(scope, receive, send):
    sys.exit(7)


async def keyboard_interrupt(scope, receive, send):
    raise KeyboardInterrupt


async def cancel_itself(scope, receive, send):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


async def send_errors(scope, receive, send):
    """Every message that send() must refuse; then the answer goes out all the same."""
    wrong = {
        "unknown type": {"type": "http.response.push", "path": "/"},
        "websocket type": {"type": "websocket.accept"},
        "no type": {"status": 200},
        "no dict": [("type", "http.response.start")],
        "no status": {"type": "http.response.start"},
        "status is text": {"type": "http.response.start", "status": "200"},
        "status of one digit": {"type": "http.response.start", "status": 7},
        "header name is text": {"type": "http.response.start", "status": 200,
                                "headers": [("a", b"b")]},
        "header is no pair": {"type": "http.response.start", "status": 200, "headers": [(b"a",)]},
        "header with a newline": {"type": "http.response.start", "status": 200,
                                  "headers": [(b"a", b"b\r\nc: d")]},
        "status is interim": {"type": "http.response.start", "status": 199},
        "status of four digits": {"type": "http.response.start", "status": 1000},
        "header name with a space": {"type": "http.response.start", "status": 200,
                                     "headers": [(b"fine", b""), (b"a b", b"\xff")]},
        "two lengths": {"type": "http.response.start", "status": 200,
                        "headers": [(b"content-length", b"1"), (b"Content-Length", b"1")]},
        "length is no number": {"type": "http.response.start", "status": 200,
                                "headers": [(b"content-length", b"-1")]},
        "body first": {"type": "http.response.body", "body": b"x"},
        "body is text": {"type": "http.response.body", "body": "x"},
    }
    raised = {}
    for name, message in wrong.items():
        try:
            await send(message)
            raised[name] = None
        except Exception as error:
            raised[name] = type(error).__name__
            if type(error) is ValueError:
                raised[name] = str(error)
    await send({"type": "http.response.start", "status": 200, "headers": [[b"a", b"b"]], "extra": 1})
    try:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raised["second start"] = None
    except Exception as error:
        raised["second start"] = type(error).__name__
    await send({"type": "http.response.body", "body": json.dumps(raised).encode(), "extra": 1})
    await send({"type": "http.response.body", "body": b"ignored after the end"})
    await send({"type": "http.response.start", "status": 500})


async def buffers(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": ((b"x-a", b"1"), [b"x-b", b"2"])})
    await send({"type": "http.response.body", "body": bytearray(b"byte"), "more_body": True})
    await send({"type": "http.response.body", "body": memoryview(b"array"), "more_body": False})


async def headers_from_generator(scope, receive, send):
    await send({"type": "http.response.start", "status": 200,
                "headers": ((name, b"1") for name in (b"x-a", b"x-b", b"x-a"))})
    await send({"type": "http.response.body", "body": b"ok"})


async def too_long(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"four", "more_body": False})


async def too_short(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
    await send({"type": "http.response.body", "body": b"four", "more_body": False})


async def no_content(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def background(scope, receive, send):
    await answer(send, b"answered")
    await asyncio.sleep(0.3)
    state_of_cases["background"] = "done"


async def send_in_task(scope, receive, send):
    await asyncio.gather(asyncio.create_task(answer(send, b"from a task")))


async def reused_awaitable(scope, receive, send):
    message = receive()
    await message
    try:
        await message
        result = "nothing"
    except RuntimeError as error:
        result = str(error)
    await answer(send, {"error": result})


async def abandoned_awaitables(scope, receive, send):
    receive().close()
    send({"type": "http.response.start", "status": 500}).close()
    del receive
    await answer(send, b"untouched")


async def big(scope, receive, send):
    await answer(send, b"0123456789abcdef" * 65536)


async def app(scope_, receive, send):
    if scope_["type"] != "http":
        raise RuntimeError("http only")
    case = globals()[scope_["path"].strip("/").split("/")[0].replace("-", "_")]
    await case(scope_, receive, send)
