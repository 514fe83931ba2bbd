#!/usr/bin/env python
"""Django's command line for visearch."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "visearch_site.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError, connection

    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        if "--traceback" in sys.argv or connection.connection is not None:  # it did answer
            raise
        sys.exit(
            "The database does not answer. Start it (`make up` starts one on this machine), or set DATABASE_URL to "
            f"where it is.\n{error}"
        )


if __name__ == "__main__":
    main()
