"""Commands of the service itself: `serve`, `migrate` and `settings`."""

import logging.config
from contextlib import suppress
from importlib.util import find_spec
from typing import Annotated

import typer
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import ChangeReload

from blog_api.cli.console import print_database, run_async
from blog_api.core.errors import ServiceUnavailable
from blog_api.core.logs import make_log_config
from blog_api.core.settings import Settings, exit_with_errors, load_settings
from blog_api.core.telemetry import is_telemetry_enabled
from blog_api.core.urls import get_sqlite_path
from blog_api.db.migrate import migrate, prepare_sqlite_file
from blog_api.db.revisions import Fit, get_head_revision
from blog_api.db.session import Database
from blog_api.web.health import NotReady, require_migrated
from blog_api.web.protocol import LimitedHttpProtocol
from blog_api.web.workers import ACCEPT_SECONDS, DRAIN_SECONDS, DrainingServer, Supervisor

# Of `BLOG_SHUTDOWN_SECONDS`; `blog_api.app` has the rest.
REQUESTS_SHARE = 0.6
# A worker responds once Python has started and imported the application. Uvicorn's default of five
# seconds would kill and restart workers forever on a busy machine.
WORKER_START_SECONDS = 60

log = logging.getLogger("blog_api")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    reload: Annotated[bool, typer.Option(help="Restart when the code changes.")] = False,
) -> None:
    """Serve the API. A SQLite file is created and migrated first."""
    settings = load_settings()
    if is_telemetry_enabled() and find_spec("opentelemetry.sdk") is None:
        exit_with_errors("FASTAPI_OTEL_AUTO_CONFIGURE: needs pip install '.[telemetry]'")
    log_config = make_log_config(settings)
    logging.config.dictConfig(log_config)
    if workers > 1 and settings.is_in_memory:
        exit_with_errors("--workers: processes cannot share a database in memory")
    if workers > 1 and settings.rate_limit_enabled and settings.uses_memory_rate_limits:
        log.warning(
            "Each worker counts rate limits by itself: "
            "set BLOG_RATE_LIMIT_STORAGE to a Redis URL to share them"
        )
    log.info("Database: %s", settings.database_url.render_as_string())
    file = get_sqlite_path(settings.database_url)
    if file is not None:
        # Before the workers start: an error is reported once.
        run_async(prepare_sqlite_file(settings, file))
    elif not settings.is_sqlite:
        run_async(warn_unless_ready(settings))
    if settings.public_url is None:
        log.warning("Feeds link to http://127.0.0.1:%s: set BLOG_PUBLIC_URL", port or "PORT")
    config = uvicorn.Config(
        "blog_api.main:app",
        host=host,
        port=port,
        workers=workers,
        reload=reload,
        log_config=log_config,
        access_log=False,
        http=LimitedHttpProtocol,
        # There are no WebSockets, and an upgrade request would wait forever.
        ws="none",
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        # uvicorn's type says whole seconds, but it waits for any number.
        timeout_graceful_shutdown=get_request_seconds(settings),  # type: ignore[arg-type]
        timeout_worker_healthcheck=WORKER_START_SECONDS,
    )
    run_server(config)


def get_request_seconds(settings: Settings) -> float:
    """Return for how long uvicorn waits for requests when it stops, after `DrainingServer`."""
    return settings.shutdown_seconds * REQUESTS_SHARE - ACCEPT_SECONDS - DRAIN_SECONDS


def run_server(config: uvicorn.Config) -> None:
    """Serve in this process, or in several that it supervises. Exits with a status on errors."""
    if config.should_reload:
        server = DrainingServer(config)
        ChangeReload(config, target=server.run, sockets=[config.bind_socket()]).run()
    elif config.workers > 1:
        Supervisor(config, sockets=[config.bind_socket()]).run()
    else:
        config.load_app()
        server = DrainingServer(config)
        with suppress(KeyboardInterrupt):
            server.run()
        if not server.started:
            raise typer.Exit(STARTUP_FAILURE)


async def warn_unless_ready(settings: Settings) -> None:
    """Log why requests will get 503, if the database is not reachable or not migrated."""
    database = Database(settings)
    try:
        async with database.session(writes=False) as session:
            schema = await require_migrated(session)
        if schema.fit is Fit.NEWER:
            log.warning("%s", schema)
    except ServiceUnavailable:
        log.warning("Requests get 503 until the database of BLOG_DATABASE_URL responds")
    except NotReady as problem:
        log.warning("Requests get 503: %s", problem.detail)
    finally:
        await database.close()


def migrate_database() -> None:
    """Migrate the database to the newest revision, completely or not at all."""
    settings = load_settings()
    print_database(settings)
    logging.config.dictConfig(make_log_config(settings))
    before = run_async(migrate(settings))
    if before.fit is Fit.NEWER:
        print(f"{before}. Nothing was changed.")
        return
    print(f"The database is at revision {get_head_revision()}.")


def show_settings() -> None:
    """Print the settings in force, without secrets."""
    for name, value in load_settings().describe():
        print(f"{name}={value}")
