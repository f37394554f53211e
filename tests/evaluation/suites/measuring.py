"""One process of several that run a suite: `measuring.py '{"out": …, "source": …, "suite": …}'`."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from cm3leon_jax.cli import exit_status
from cm3leon_jax.runtime import hosts


def work() -> None:
    arguments = json.loads(sys.argv[1])
    hosts.join()

    from stand_ins import work_in
    from tiny_generator import tiny_generator

    from cm3leon_jax.evaluation.suites.vqa import vizwiz
    from cm3leon_jax.model.partitioning import local_partitioning

    out = pathlib.Path(arguments["out"])
    generator = tiny_generator(partitioning=local_partitioning())
    result = vizwiz(work_in(out, generator, vizwiz=arguments["source"], answer_tokens=2))
    (out / f"found_by_{hosts.index()}.json").write_text(json.dumps(result.to_dict()))


if __name__ == "__main__":
    sys.exit(exit_status(work))
