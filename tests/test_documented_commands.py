"""Every command that a page or a gin file prints is one that the command line takes: options, gin files, bindings."""

import functools
import pathlib
import re
import shlex

import pytest

from cm3leon_jax import cli

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [path.relative_to(ROOT) for path in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")))]
RUNS = [path.relative_to(ROOT) for path in sorted(ROOT.glob("gin_configs/runs/*.gin"))]


def printed(text: str) -> list[list[str]]:
    """The words behind `cm3leon` of each command in a page's blocks of code, or in a gin file's comments. What leaves
    something out (…) is not complete, and what stands for a command (NAME) is none."""
    lines = re.sub(r"\\\n#?\s*", "", text).splitlines()
    commands = [line for line in lines if re.match(r"(# *)?cm3leon [a-z]", line) and "…" not in line]
    return [shlex.split(line.lstrip("# "), comments=True)[1:] for line in commands]


def blocks(page: str) -> str:
    return "\n".join(re.findall(r"^```[^\n]*\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("path", [*PAGES, *RUNS], ids=str)
def test_printed_commands_are_taken(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    for name, *rest in printed(blocks(text) if path.suffix == ".md" else text):
        function = cli._load(name)
        stand_in = functools.wraps(function)(lambda **_: None)
        cli._call(name, stand_in, *cli._parse(name, function, rest))


def test_commands_are_found():
    assert printed("cm3leon report --directory run\n  cm3leon is\nx\ncm3leon sample … --task edit\n") == [
        ["report", "--directory", "run"]
    ]
    assert printed("# cm3leon:\n#   cm3leon train --seed 1 \\\n#     --directory A\n") == [
        ["train", "--seed", "1", "--directory", "A"]
    ]
    assert sum(len(printed(blocks((ROOT / path).read_text()))) for path in PAGES) > 25
