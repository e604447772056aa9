"""The server's tests are left out where its extra is not installed (`make test` installs it)."""

import importlib.util

NEEDS = ("starlette", "uvicorn", "openai")
collect_ignore_glob = [] if all(importlib.util.find_spec(name) for name in NEEDS) else ["test_*.py"]
