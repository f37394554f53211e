"""What the paper claims, tested at the scale that can be run here; ends with docs/claims.md.

    python -m benchmarks.claims                    # about two and a half hours on two CPU cores
    python -m benchmarks.claims --size gpu         # a larger world and model, for a GPU

Named creatures are made up, and tokenizers, the retriever and prepared documents are made once. Then a decoder of each
variant is trained for each seed, sampling is set on validation pictures, and test pictures are drawn and scored. The
fourth claim fine-tunes the decoder of the demo: what of it is missing in runs/demo is made first, in a quarter of an
hour (--fine_tunings 0 leaves that claim out). Killed and started again, it continues. Results are in
DIRECTORY/results.json, and what was drawn in DIRECTORY/drawings.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys

from benchmarks.claims.run import run
from benchmarks.claims.study import SIZES, Study
from cm3leon_jax.cli import exit_status

_AMOUNTS = {field.name: field.default for field in dataclasses.fields(Study) if isinstance(field.default, int)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--directory", type=pathlib.Path, help="of all that is made (runs/claims_SIZE), but the demo: runs/demo"
    )
    parser.add_argument("--docs", type=pathlib.Path, default=pathlib.Path("docs"), help="where the page is written")
    parser.add_argument("--size", choices=SIZES, default="cpu")
    for name, default in _AMOUNTS.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments, rest = parser.parse_known_args()
    bindings = tuple(argument.removeprefix("--gin.") for argument in rest if argument.startswith("--gin."))
    if len(bindings) < len(rest):
        parser.error(f"unknown arguments {' '.join(rest)}; gin bindings are written --gin.NAME=VALUE")
    study = Study(
        arguments.directory or pathlib.Path(f"runs/claims_{arguments.size}"),
        arguments.size,
        **{name: getattr(arguments, name) for name in _AMOUNTS},
        bindings=bindings,
    )
    return exit_status(lambda: print(f"\n{run(study, arguments.docs)}"))


if __name__ == "__main__":
    sys.exit(main())
