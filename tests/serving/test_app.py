"""The application over HTTP: answers as the generator gives them, many visitors at once, and what they may not do."""

import concurrent.futures
import io
import json
import struct
import time
import zlib

import numpy as np
import PIL.Image
import pytest
from tiny_generator import Blocks, tiny_generator
from visitor import MOST_BYTES, MOST_WAITING, answer, connection, data_url, picture

from cm3leon_jax.sampling.parts import HiddenCells, ImageHole
from cm3leon_jax.sampling.prompts import TextHole
from cm3leon_jax.sampling.rules import SamplingConfig

PICTURE = Blocks().decode(np.arange(16)[None])[0]
SEED = {"sampling": {"seed": 5}}
SAMPLING = SamplingConfig(rule="guided", seed=5)


@pytest.fixture(scope="module")
def generator():
    return tiny_generator()


def of_kind(events, kind):
    return [event for event in events if event["event"] == kind]


def test_the_page_and_its_assets_come_with_their_headers(served):
    with connection(served) as visitor:
        for path, kind in (
            ("/", "text/html"),
            ("/assets/app.js", "text/javascript"),
            ("/assets/style.css", "text/css"),
        ):
            visitor.request("GET", path)
            response = visitor.getresponse()
            text = response.read().decode()
            assert response.status == 200 and response.headers["content-type"].startswith(kind)
            assert "default-src 'none'" in response.headers["content-security-policy"]
            assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text
        for path, status in (("/assets/../app.py", 404), ("/assets/%2e%2e/app.py", 404), ("/nothing", 404)):
            visitor.request("GET", path)
            response = visitor.getresponse()
            response.read()
            assert response.status == status
        visitor.request("GET", "/api/model")
        assert json.loads(visitor.getresponse().read())["grid"] == [4, 4]


def test_a_drawing_grows_and_is_what_the_generator_draws(served, generator):
    status, events = answer(served, {"prompt": "cat", "retrieved": 1, "samples": 2} | SEED)
    assert status == 200 and [event["event"] for event in events][:2] == ["waiting", "documents"]
    found = generator.retrieve(["cat"], 1)[0]
    assert of_kind(events, "documents")[0]["documents"][0]["caption"] == found[0].caption
    progress = of_kind(events, "progress")
    assert progress and all(0 < event["share"] < 1 for event in progress)
    first = picture(progress[0]["samples"][0]["image"])
    assert first.shape == (8, 8, 3) and (first[-1] == 208).all() and not (first[0] == 208).any()
    (expected,) = generator.generate([[*found, "cat", ImageHole()]], SAMPLING, samples=2)
    done = events[-1]["samples"]
    scores = [one.clip_score for one in expected]
    assert [sample["clip_score"] for sample in done] == pytest.approx(scores, abs=1e-4)  # sent with four digits
    for sample, one in zip(done, expected, strict=True):
        np.testing.assert_array_equal(picture(sample["images"][0]), one.images[0])


def test_pictures_are_described_asked_about_edited_and_filled_in(served, generator):
    url = data_url(PICTURE)
    mask = np.zeros((8, 8, 3), np.uint8)
    mask[2:4, 2:6] = 255
    _, described = answer(served, {"image": url} | SEED)
    ((expected,),) = generator.generate([[TextHole(64), PICTURE]], SAMPLING)
    assert described[-1]["samples"][0]["texts"] == expected.texts
    _, edited = answer(served, {"image": url, "instruction": "dog"} | SEED)
    np.testing.assert_array_equal(
        picture(edited[-1]["samples"][0]["images"][-1]),
        generator.edit_image(["dog"], PICTURE[None], sampling=SAMPLING)[0, 0],
    )
    question = {"task": "vqa", "question": "what", "max_tokens": 9}
    _, answered = answer(served, question | {"image": url} | SEED)
    asked = generator.ask_task("vqa", {"question": "what"}, [PICTURE], max_tokens=9)
    ((expected,),) = generator.generate([asked], SAMPLING)
    assert answered[-1]["samples"][0]["answer"] == expected.answer and len(expected.answer) == 1
    status, (event,) = answer(served, question | SEED)
    assert status == 400 and "task 'vqa' takes image, question; image is missing" in event["message"]
    _, filled = answer(served, {"image": url, "mask": data_url(mask), "prompt": "dog"} | SEED)
    cells = np.zeros((4, 4), bool)
    cells[1, 1:3] = True
    ((expected,),) = generator.generate([["dog", HiddenCells(PICTURE, cells)]], SAMPLING)
    np.testing.assert_array_equal(picture(filled[-1]["samples"][0]["images"][0]), expected.images[0])


def test_fifty_visitors_at_once_each_get_their_own_answer(served):
    requests = [{"prompt": chr(ord("a") + n % 26), "sampling": {"seed": n}} for n in range(MOST_WAITING)]
    with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
        answers = list(pool.map(lambda request: answer(served, request), requests))
    assert all(status == 200 and events[-1]["event"] == "done" for status, events in answers)
    for number in (0, 17, 49):
        _, again = answer(served, requests[number])
        assert again[-1]["samples"] == answers[number][1][-1]["samples"]


def test_who_leaves_is_not_drawn_for(served, monkeypatch):
    generator = served.scheduler.generator
    with connection(served) as visitor:
        gone = []
        run = generator.run

        def slow(prompts, *arguments, watch, **options):
            def watched(unfinished):
                deadline = time.monotonic() + 120
                while not watch(unfinished) and time.monotonic() < deadline:
                    time.sleep(0.05)
                gone.append(watch(unfinished))
                return gone[-1]

            return run(prompts, *arguments, watch=watched, **options)

        monkeypatch.setattr(generator, "run", slow)
        body = json.dumps({"prompt": "cat"})
        visitor.request("POST", "/api/answer", body, {"content-type": "application/json"})
        response = visitor.getresponse()
        while b"progress" not in response.readline():
            pass
    deadline = time.monotonic() + 120
    while not gone and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone and gone[0] == {0}
    monkeypatch.undo()
    assert answer(served, {"prompt": "cat"})[1][-1]["event"] == "done"


def test_more_than_may_wait_are_refused(served, monkeypatch):
    scheduler = served.scheduler
    monkeypatch.setattr(scheduler, "_most_waiting", 0)
    status, (event,) = answer(served, {"prompt": "cat"})
    assert status == 503 and "try again" in event["message"]


def test_an_error_in_a_batch_ends_that_batch_alone(served, monkeypatch, capfd):
    def broken(*_, **__):
        raise RuntimeError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(served.scheduler.generator, "run", broken)
        status, events = answer(served, {"prompt": "cat"})
    assert status == 200 and "the log of the server" in events[-1]["message"] and "broken" not in str(events)
    assert "RuntimeError: broken" in capfd.readouterr().err
    assert answer(served, {"prompt": "cat"})[1][-1]["event"] == "done"


def bomb(side):
    """A PNG whose head says that it is side × side, with a body that is not."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


def truncated():
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()[:300]


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (b"{", 400, "not JSON"),
        (b"[" * 50_000, 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        ({"prompt": ""}, 400, "prompt is empty"),
        ({"prompt": "cat", "samples": 5}, 400, "at most 4"),
        ({"image": "/etc/passwd"}, 400, "no data URL"),
        ({"image": "https://example.com/a.png"}, 400, "no data URL"),
        ({"image": "data:image/png;base64,!!!"}, 400, "cannot be used"),
        ({"image": "data:image/png;base64,\u00e9"}, 400, "cannot be used"),
        ({"prompt": "cat", "sampling": {"temperature": 10**400}}, 400, "a number that float32 holds"),
        ({"image": data_url(b"")}, 400, "empty"),
        ({"image": data_url(b"<svg/>", "PNG")}, 400, "not an image"),
        ({"image": data_url(POSTSCRIPT, "PNG")}, 400, "not an image"),
        ({"image": data_url(bomb(60_000))}, 400, "pixels"),
        ({"image": data_url(truncated(), "JPEG")}, 400, "cannot be"),
        ({"prompt": "a" * MOST_BYTES}, 413, "send a smaller picture"),
    ],
)  # fmt: skip
def test_hostile_requests_are_refused_in_one_line(served, request_, status, words):
    found, (event,) = answer(served, request_)
    assert found == status and words in event["message"] and len(event["message"]) < 250


def test_a_prompt_too_long_for_the_model_is_told(served):
    status, events = answer(served, {"prompt": "a" * 95})
    assert status == 200 and "the model holds 96" in events[-1]["message"]


def test_other_pages_cannot_use_the_server(served):
    status, (event,) = answer(served, {"prompt": "cat"}, **{"content-type": "text/plain"})
    assert status == 415 and "application/json" in event["message"]
    with connection(served) as visitor:
        visitor.request("GET", "/api/model", headers={"host": "evil.example"})
        assert visitor.getresponse().status == 400


def test_strange_sizes_and_modes_are_pictures_too(served):
    for mode, size in (("L", (3, 200)), ("RGBA", (1, 1)), ("P", (40, 9)), ("I;16", (20, 20))):
        buffer = io.BytesIO()
        PIL.Image.new(mode, size).save(buffer, "PNG")
        status, events = answer(served, {"image": data_url(buffer.getvalue()), "max_tokens": 3})
        assert status == 200 and events[-1]["event"] == "done", (mode, events)
