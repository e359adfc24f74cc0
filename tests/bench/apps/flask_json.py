from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/items/<int:item>")
def read(item):
    return jsonify(id=item, name="tea")
