"""What starting costs: which modules are loaded before a command is chosen, and by the lightest commands."""

import subprocess
import sys

import pytest

HEAVY = {
    "torch", "numpy", "pyarrow", "polars", "pandas", "tokenizers", "transformers", "sklearn", "httpx", "rich",
    "tyro", "jinja2", "gguf", "safetensors", "zstandard", "pydantic", "sqlite3", "asyncio",
}  # fmt: skip


def loaded(code):
    script = (
        f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())  # complaints of the command stand before it


@pytest.mark.parametrize(
    "code",
    [
        "import hornbook",
        "import hornbook.cli",
        "from hornbook.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from hornbook.cli import main\ntry: main(['report', '--home', 'nowhere'])\nexcept SystemExit: pass",
    ],
)
def test_nothing_heavy_is_loaded(code):
    assert not loaded(code) & HEAVY
