"""A small Quart application: templates, uploads, streams, background tasks, before and after serving."""

import asyncio
import hashlib
import os
import threading

from quart import Quart, abort, jsonify, render_template, request, session

app = Quart(__name__)
app.config["MAX_CONTENT_LENGTH"] = 64 << 20
# Every worker must sign sessions with the same key: not one that is made when it starts.
app.secret_key = os.environ.get("SHOP_SECRET", "only for the example")


@app.before_serving
async def open_board():
    # Each worker has a board of its own: what one request leaves here, another worker does not see.
    app.board = []


@app.after_serving
async def close_board():
    print(f"the board had {len(app.board)} notes", flush=True)


@app.get("/")
async def index():
    return await render_template("board.html", worker=os.getpid(), name=request.args.get("name", "world"))


@app.get("/hello/<name>")
async def hello(name):
    return jsonify(greeting=f"Hello, {name}!")


@app.get("/notes")
async def notes():
    return jsonify(worker=os.getpid(), notes=app.board)


@app.post("/notes")
async def add_note():
    text = (await request.get_json(silent=True) or {}).get("text")
    if not isinstance(text, str) or not text:
        abort(400, "a text is wanted")

    async def write():
        await asyncio.sleep(0.3)  # the client has its answer by now
        app.board.append(text)
        print(f"noted: {text}", flush=True)

    # A worker that ends waits for its background tasks.
    app.add_background_task(write)
    return jsonify(accepted=text), 202


@app.post("/visits")
async def visit():
    session["visits"] = session.get("visits", 0) + 1
    return jsonify(visits=session["visits"])


@app.put("/digest")
async def digest():
    """Reads the body as it arrives."""
    size, digest = 0, hashlib.sha256()
    async for part in request.body:
        size += len(part)
        digest.update(part)
    return jsonify(size=size, sha256=digest.hexdigest())


@app.post("/files")
async def upload():
    file = (await request.files)["file"]
    return jsonify(name=file.filename, size=len(file.read())), 201


@app.get("/count/<int:last>")
async def count(last):
    async def lines():
        for number in range(1, last + 1):
            yield f"{number}\n"
            await asyncio.sleep(0.01)

    return lines(), {"Content-Type": "text/plain"}


@app.get("/thread")
def thread():
    """Not a coroutine: runs in the thread pool, so it may block."""
    return jsonify(main_thread=threading.current_thread() is threading.main_thread())


@app.get("/broken")
async def broken():
    raise RuntimeError("this ends in the log")


@app.errorhandler(400)
@app.errorhandler(404)
async def explain(error):
    return jsonify(error=error.description), error.code
