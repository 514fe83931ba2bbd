"""`python -m visearch_site.local up|demo`: what `make up` and `make demo` run (docs/operating.md has the variables)."""

from __future__ import annotations

import argparse
import sys

from visearch_site.local.errors import LocalError
from visearch_site.local.launch import run
from visearch_site.local.site import django_site


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m visearch_site.local")
    parser.add_argument("command", choices=["up", "demo"], help="demo: up, and the samples are loaded")
    options = parser.parse_args(arguments)
    try:
        return run(django_site(samples=options.command == "demo"))
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
    except OSError as error:
        sys.stderr.write(f"{error.filename or 'The system'}: {error.strerror}. Nothing is left running.\n")
    except KeyboardInterrupt:
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
