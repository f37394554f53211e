"""`cm3leon serve`."""

from __future__ import annotations

import dataclasses

from cm3leon_jax.model.partitioning import AxisRules, MeshConfig
from cm3leon_jax.runtime.errors import UserError, check_at_least
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.sampling.weights import PrecisionConfig


def serve(
    decoder: str,
    text_tokenizer: str,
    image_tokenizer: str,
    sampling: SamplingConfig,
    precision: PrecisionConfig,
    mesh: MeshConfig,
    rules: AxisRules,
    retriever: str | None = None,
    prepared: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    allowed_host: list[str] | None = None,
    batch_size: int = 32,
    most_samples: int = 8,
    most_waiting: int = 64,
    most_upload_mib: int = 16,
) -> None:
    """A page at http://HOST:PORT to draw, edit, fill in and describe pictures on, until Ctrl-C.

    With --retriever the best of several samples is found, with --prepared too documents are retrieved. Requests that
    come together are drawn together, --batch_size samples at once; --most_waiting may wait. Only this machine reaches
    the page unless --host says otherwise (0.0.0.0: everybody who can reach this machine; there is no password). Behind
    a proxy, --allowed_host NAME is the host's name by which people call the page, and may be repeated: only requests by
    these names are answered. Without it those by this machine's names are, and with another --host all."""
    import socket

    import uvicorn

    from cm3leon_jax.model.partitioning import local_partitioning
    from cm3leon_jax.sampling.pipeline import Generator
    from cm3leon_jax.sampling.requests import RequestReader
    from cm3leon_jax.sampling.rules import MIXED, RULES
    from cm3leon_jax.serving.app import make_app, read_data_url
    from cm3leon_jax.serving.scheduler import Scheduler

    check_at_least(1, batch_size=batch_size, most_samples=most_samples, most_waiting=most_waiting)
    try:
        door = socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host}:{port} ({error}); choose another --port, or 0 for any") from None
    with door:
        generator = Generator.load(
            decoder,
            text_tokenizer,
            image_tokenizer,
            retriever=retriever,
            prepared=prepared,
            partitioning=local_partitioning(mesh, rules),
            batch_size=batch_size,
            precision=precision,
        )
        tokenizer = generator.image_tokenizer
        reader = RequestReader(lambda url: read_data_url(url, tokenizer.resolution), tokenizer.grid, sampling)
        facts = {
            "resolution": tokenizer.resolution,
            "grid": tokenizer.grid,
            "retrieval": generator.library is not None,
            "clip": generator.retriever is not None,
            "most_samples": most_samples,
            "rules": [*RULES, MIXED],
            "sampling": dataclasses.asdict(sampling),
        }
        scheduler = Scheduler(generator, batch_size=batch_size, most_waiting=most_waiting)
        everywhere = host not in ("127.0.0.1", "localhost", "::1")
        names = allowed_host or (["*"] if everywhere else ["127.0.0.1", "localhost", "[::1]"])
        app = make_app(
            scheduler, reader, facts, most_bytes=most_upload_mib * 2**20, most_samples=most_samples, hosts=names
        )
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, ws="none", lifespan="off")
        )
        scheduler.start()
        print(f"serving on http://{host}:{door.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
        try:
            server.run(sockets=[door])
        except KeyboardInterrupt:  # uvicorn says it once more after it has stopped
            pass
        finally:
            scheduler.stop()
