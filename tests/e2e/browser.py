"""A client as a browser is one: for the tests of the examples."""

import http.cookiejar
import json
import urllib.error
import urllib.request
import uuid


class Browser:
    """Keeps cookies."""

    def __init__(self, mgr):
        self.base = f"http://{mgr.address}"
        self.opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def open(self, path, body=None, content_type=None, method=None, headers=None):
        """(status, header fields, body)"""
        headers = {**(headers or {}), **({"Content-Type": content_type} if content_type else {})}
        request = urllib.request.Request(self.base + path, data=body, headers=headers, method=method)
        try:
            with self.opener.open(request, timeout=30) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def call(self, path, *more, **options):
        """(status, body)"""
        status, _, body = self.open(path, *more, **options)
        return status, body

    def json(self, path, *more, **options):
        """(status, decoded body)"""
        status, body = self.call(path, *more, **options)
        return status, json.loads(body)


def upload(browser, name, content):
    """POSTs a form with one file to /files; (status, decoded body)."""
    boundary = uuid.uuid4().hex
    body = (f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n").encode() + content
    body += f"\r\n--{boundary}--\r\n".encode()
    return browser.json("/files", body, f"multipart/form-data; boundary={boundary}")
