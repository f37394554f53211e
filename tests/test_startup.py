"""Help comes at once because nothing heavy is imported for it."""

import subprocess
import sys

SCRIPT = """
import sys
from cm3leon_jax.cli import main
status = main({arguments!r})
heavy = ("jax", "flax", "numpy", "gin", "tensorflow", "seqio", "scann", "PIL", "scipy")
print("imported:", [name for name in heavy if name in sys.modules])
sys.exit(status)
"""


def test_help_imports_nothing_heavy():
    for arguments in (["--help"], ["-h"], []):
        command = [sys.executable, "-c", SCRIPT.format(arguments=arguments)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        assert result.stdout.endswith("imported: []\n")
