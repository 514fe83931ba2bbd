"""The servers and processes that `make demo` and `make up` start, and the servers that the tests start. Django-free.

For tests (a fixture of the root conftest, before Django's settings are loaded):

    from visearch_site.local.servers import Servers, local_servers

    with local_servers(folder, fsync=False) as servers:      # folder: Path of an existing, empty folder
        os.environ["DATABASE_URL"] = servers.database_url    # postgres://visearch:PASSWORD@/visearch?host=/tmp/...
        os.environ["REDIS_URL"] = servers.redis_url          # unix:///tmp/.../redis.sock?db=0
        ...

`Servers` is a frozen dataclass of `database_url`, `redis_url`, `postgres` (PostgresServer) and `redis` (RedisServer).
The role may create databases, as the test runner must. Both servers end with the block, or with this process.

One at a time: `postgres.start_postgres(data_dir, socket_dir) -> PostgresServer(url, pid, stop(), kill())` and
`redis.start_redis(data_dir, socket_dir) -> RedisServer(...)`. Everything that goes wrong is a `LocalError` whose text
says what to do.
"""

from visearch_site.local.errors import LocalError

__all__ = ["LocalError"]
