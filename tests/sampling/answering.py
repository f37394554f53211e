"""One process of several that answer a file of requests: `answering.py '{"out": …, "rows": …}'`."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from cm3leon_jax.cli import exit_status
from cm3leon_jax.runtime import hosts


def work() -> None:
    arguments = json.loads(sys.argv[1])
    out = pathlib.Path(arguments["out"])
    hosts.join()

    from test_request_file import READER
    from tiny_generator import tiny_generator

    from cm3leon_jax.model.partitioning import local_partitioning
    from cm3leon_jax.sampling.request_file import answer_file, tell_of

    generator = tiny_generator(partitioning=local_partitioning())
    run = generator.run

    def noted(prompts, *settings, **options):
        with open(out / f"drawn_by_{hosts.index()}", "a") as file:
            file.write(f"{len(prompts)}\n")
        return run(prompts, *settings, **options)

    generator.run = noted
    tell_of(out, answer_file(generator, READER, arguments["rows"], out, piece=2, keep=0))


if __name__ == "__main__":
    sys.exit(exit_status(work))
