"""What main.py and wsgi.py serve. Each worker has a stock of its own."""

ITEM = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1},
                   "quantity": {"type": "integer", "minimum": 0}},
    "required": ["name", "quantity"],
}


class OutOfStock(Exception):
    pass


class Stock:
    def __init__(self):
        self.items = {"tea": 3}

    def quantity(self, name):
        if not self.items.get(name):
            raise OutOfStock(name)
        return self.items[name]

    def take_all(self, name):
        self.quantity(name)
        self.items[name] = 0
