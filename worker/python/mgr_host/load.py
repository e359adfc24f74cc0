"""Finds the application that the setting `app` names, and which interface it has."""

import difflib
import functools
import importlib
import inspect
import sys

from mgr_host import errors, forked


class Failure(Exception):
    """The application cannot be served. `error` is one line; `traceback` may be empty."""

    def __init__(self, stage, error, traceback=""):
        super().__init__(error)
        self.stage = stage
        self.error = f"{error} ({sys.executable})"
        self.traceback = traceback


class Application:
    def __init__(self, call, interface):
        self.call = call
        self.interface = interface  # "asgi", "asgi2", "wsgi"

    @property
    def double_callable(self):
        return self.interface == "asgi2"


def load(name, interface):
    """`name` is `module`, `module:attribute`, `module:attribute.attribute` or `module:factory()`."""
    module_name, _, attribute = name.partition(":")
    module = import_module(module_name)
    found, where = find(module, module_name, attribute)
    if not callable(found):
        if inspect.iscoroutine(found):
            found.close()  # else Python complains that nobody awaited it
        raise Failure("application", f"{where} is not callable: it is {describe(found)}")
    return Application(found, interface_of(found, where, interface))


def import_module(name):
    if not name:
        raise Failure("import", "app names no module: expected MODULE:ATTRIBUTE")
    try:
        with forked.Application():
            return importlib.import_module(name)
    except BaseException as exception:
        raise Failure("import", f"cannot import {name!r}: {errors.one_line(exception)}",
                      errors.full(exception)) from None


def find(module, module_name, attribute):
    if not attribute:
        for attribute in ("app", "application"):
            if hasattr(module, attribute):
                return getattr(module, attribute), f"{module_name}:{attribute}"
        raise Failure("attribute", f"module {module_name!r} has neither 'app' nor 'application'"
                                   f"{near(module, 'app')}")
    path, is_factory = attribute, attribute.endswith("()")
    if is_factory:
        path = attribute[:-2]
    found = walk(module, module_name, path)
    return (call_factory(found, f"{module_name}:{attribute}") if is_factory else found,
            f"{module_name}:{attribute}")


def walk(module, module_name, path):
    found, where = module, f"module {module_name!r}"
    for part in path.split("."):
        try:
            found, outer = getattr(found, part), found
        except AttributeError:
            raise Failure("attribute",
                          f"{where} has no attribute {part!r}{near(found, part)}") from None
        where = f"{part!r} of {where}"
    return found


def near(owner, name):
    names = [each for each in dir(owner) if not each.startswith("__")]
    close = difflib.get_close_matches(name, names, n=3)
    return f"; near: {', '.join(close)}" if close else ""


def call_factory(factory, where):
    if not callable(factory):
        raise Failure("application", f"{where}: the factory is {describe(factory)}")
    try:
        with forked.Application():
            return factory()
    except BaseException as exception:
        raise Failure("application", f"{where} failed: {errors.one_line(exception)}",
                      errors.full(exception)) from None


def describe(found):
    return f"of type {type(found).__module__}.{type(found).__qualname__}"


def interface_of(found, where, interface):
    return detect(found, where) if interface == "auto" else interface


def detect(found, where):
    """As asgiref.compatibility does, and by the number of arguments where that says nothing."""
    if getattr(found, "_asgi_single_callable", False):
        return "asgi"
    if getattr(found, "_asgi_double_callable", False):
        return "asgi2"
    if inspect.isclass(found):
        return "asgi" if hasattr(found, "__await__") else by_arguments(found, where)
    if is_coroutine_function(found) or is_coroutine_function(getattr(found, "__call__", None)):
        return "asgi"
    return by_arguments(found, where)


def is_coroutine_function(function):
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function) or hasattr(function, "_is_coroutine"):
        return True
    call = getattr(type(function), "__call__", None)
    return inspect.iscoroutinefunction(call)


INTERFACES = {"asgi": "scope, receive, send", "asgi2": "scope", "wsgi": "environ, start_response"}


def by_arguments(found, where):
    """By how many positional arguments it can be called with, where that is one of 1, 2 and 3."""
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        raise ambiguous(where, "does not tell which arguments it takes") from None
    if accepts(signature, 0) and not accepts(signature, 3):
        raise ambiguous(where, f"can be called without arguments: for a factory write {where}()")
    fitting = [name for name, count in (("asgi", 3), ("wsgi", 2), ("asgi2", 1))
               if accepts(signature, count)]
    if len(fitting) == 1:
        return fitting[0]
    raise ambiguous(where, f"takes the arguments {signature}")


def accepts(signature, count):
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def ambiguous(where, why):
    forms = " or ".join(f"{name} ({arguments})" for name, arguments in INTERFACES.items())
    return Failure("application", f"{where} {why}; set `interface` to say how it is called: {forms}")
