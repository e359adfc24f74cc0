"""A small Flask application: a database on SQLite, sessions, uploads, streams, files."""

import csv
import io
import os
import sqlite3
import time
from pathlib import Path

from flask import (Flask, Response, abort, g, jsonify, request, send_from_directory, session,
                   stream_with_context)
from werkzeug.utils import secure_filename

DATA = Path(os.environ.get("SHOP_DATA", Path(__file__).with_name("data"))).absolute()
DATA.mkdir(parents=True, exist_ok=True)

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 64 << 20
# Every worker must sign sessions with the same key: not one that is made when it starts.
app.secret_key = os.environ.get("SHOP_SECRET", "only for the example")


def database():
    """One connection for each request: its thread opens and closes it."""
    if "database" not in g:
        g.database = sqlite3.connect(DATA / "shop.sqlite3", timeout=10)
        g.database.row_factory = sqlite3.Row
    return g.database


@app.teardown_appcontext
def close_database(_):
    if "database" in g:
        g.pop("database").close()


with app.app_context():
    database().execute("CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")


@app.get("/")
def index():
    return jsonify(worker=os.getpid(), items=database().execute("SELECT count(*) FROM items").fetchone()[0])


@app.get("/items")
def items():
    return jsonify([dict(row) for row in database().execute("SELECT id, name FROM items ORDER BY id")])


@app.post("/items")
def add_item():
    name = (request.get_json(silent=True) or {}).get("name")
    if not isinstance(name, str) or not name:
        abort(400, "a name is wanted")
    with database() as connection:
        cursor = connection.execute("INSERT INTO items (name) VALUES (?)", (name,))
    return jsonify(id=cursor.lastrowid, name=name), 201


@app.post("/visits")
def visit():
    session["visits"] = session.get("visits", 0) + 1
    return jsonify(visits=session["visits"])


@app.post("/files")
def upload():
    """The file goes from the socket to the disk: memory holds a part of it at a time."""
    file = request.files["file"]
    name = secure_filename(file.filename)
    if not name:
        abort(400, "a file name is wanted")
    file.save(DATA / name)
    return jsonify(name=name, size=(DATA / name).stat().st_size), 201


@app.get("/files/<name>")
def download(name):
    return send_from_directory(DATA, name)  # by sendfile


@app.get("/export")
def export():
    """A row at a time, while the client reads."""
    def rows():
        for number in range(request.args.get("rows", 1000, type=int)):
            line = io.StringIO()
            csv.writer(line).writerow([number, f"item {number}"])
            yield line.getvalue()
    return Response(stream_with_context(rows()), mimetype="text/csv")


@app.get("/slow")
def slow():
    """Waits on its thread; others go on."""
    time.sleep(request.args.get("seconds", 1.0, type=float))
    return jsonify(slept=True)


@app.get("/broken")
def broken():
    raise RuntimeError("this ends in the log")
