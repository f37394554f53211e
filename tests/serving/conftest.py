"""The application with a tiny model, served on a free port in a thread."""

import dataclasses
import socket
import threading

import pytest
import uvicorn
from tiny_generator import Blocks, tiny_generator
from visitor import MOST_BYTES, MOST_WAITING

from cm3leon_jax.sampling.requests import RequestReader
from cm3leon_jax.sampling.rules import MIXED, RULES, SamplingConfig
from cm3leon_jax.serving.app import make_app, read_data_url
from cm3leon_jax.serving.scheduler import Scheduler


@dataclasses.dataclass
class Served:
    port: int
    scheduler: Scheduler


@pytest.fixture(scope="session")
def served():
    sampling = SamplingConfig(rule="guided")
    facts = {
        "resolution": Blocks.resolution,
        "grid": Blocks.grid,
        "retrieval": True,
        "clip": True,
        "most_samples": 4,
        "rules": [*RULES, MIXED],
        "sampling": dataclasses.asdict(sampling),
    }
    scheduler = Scheduler(tiny_generator(batch_size=16), batch_size=16, most_waiting=MOST_WAITING)
    reader = RequestReader(lambda url: read_data_url(url, Blocks.resolution), Blocks.grid, sampling)
    app = make_app(scheduler, reader, facts, most_bytes=MOST_BYTES, most_samples=4, hosts=["127.0.0.1", "localhost"])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2))
    door = socket.create_server(("127.0.0.1", 0))
    scheduler.start()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    yield Served(door.getsockname()[1], scheduler)
    server.should_exit = True
    thread.join()
    scheduler.stop()
