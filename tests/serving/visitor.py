"""Who asks the server over HTTP."""

import base64
import contextlib
import http.client
import io
import json

import numpy as np
import PIL.Image

MOST_BYTES = 200_000  # of a request that is served here
MOST_WAITING = 50  # requests


def answer(served, request, **headers):
    """-> status, events."""
    with connection(served) as visitor:
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        visitor.request("POST", "/api/answer", body, {"content-type": "application/json"} | headers)
        response = visitor.getresponse()
        return response.status, [json.loads(line) for line in response.read().splitlines()]


@contextlib.contextmanager
def connection(served):
    visitor = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
    try:
        yield visitor
    finally:
        visitor.close()


def data_url(image, kind="PNG"):
    """uint8 [H, W, 3], or the bytes of a file, -> data URL."""
    if not isinstance(image, bytes):
        buffer = io.BytesIO()
        PIL.Image.fromarray(image).save(buffer, kind)
        image = buffer.getvalue()
    return f"data:image/{kind.lower()};base64,{base64.b64encode(image).decode()}"


def picture(url):
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))
