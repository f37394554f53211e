"""Help comes at once because nothing heavy is imported for it."""

import os
import subprocess
import sys

import pytest

HEAVY = {"jax", "flax", "numpy", "gin", "tensorflow", "seqio", "scann", "PIL", "scipy"}


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_imports_nothing_heavy(arguments):
    command = [sys.executable, "-X", "importtime", "-m", "cm3leon_jax", *arguments]
    environment = os.environ | {"CM3LEON_PREPARED": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    imported = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines() if "import time:" in line}
    assert "cm3leon_jax.cli" in imported and not HEAVY & imported
