"""The scripts of docs/checkpoints.md, run as they stand in a process that cannot import this package."""

import json
import os
import pathlib
import re
import subprocess
import sys

PAGE = pathlib.Path(__file__).parent.parent.parent / "docs/checkpoints.md"


def documented(mark: str, folder: pathlib.Path) -> str:
    """The one script that contains `mark`, with `folder` where it says OUT."""
    found = [script for script in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if mark in script]
    assert len(found) == 1
    return found[0].replace("OUT", str(folder))


def run(script: str, folder: pathlib.Path):
    """Runs it in `folder` -> the JSON that its last line prints."""
    script = f'import sys\nsys.modules["cm3leon_jax"] = None\n{script}'
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, env=os.environ)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])
