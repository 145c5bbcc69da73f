"""nginx and Apache as compressing proxies before a server, and PgBouncer before Postgres."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL

START_SECONDS = 10

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip on;
    gzip_proxied any;
    gzip_min_length 1;
    gzip_types application/json;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass {address}; }}
    }}
}}
"""

APACHE = """
ServerRoot {folder}
ServerName localhost
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule filter_module {modules}/mod_filter.so
LoadModule deflate_module {modules}/mod_deflate.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
User www-data
Group www-data
AddOutputFilterByType DEFLATE application/json
ProxyPass / {address}/
"""

# It drops the rights of root only if it is told a user.
PGBOUNCER = """
[databases]
* = host={host} port={server_port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
unix_socket_dir =
{account}
"""

TEMPLATES = {"nginx": NGINX, "apache2": APACHE}
COMMANDS = {
    "nginx": ("nginx", "-e", "{file}.log", "-c", "{file}"),
    "apache2": ("apache2", "-D", "FOREGROUND", "-f", "{file}"),
}
APACHE_MODULES = "/usr/lib/apache2/modules"


def find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, "The proxy stopped"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "The proxy does not listen"


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[None]:
    """Run a proxy that listens on a port."""
    process = subprocess.Popen(command)
    try:
        wait_until_listening(port, process)
        yield
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)


@contextmanager
def running_pgbouncer(folder: Path, url: URL, pool_size: int) -> Iterator[URL]:
    """Yield the URL of a database behind PgBouncer, which pools transactions."""
    port = find_free_port()
    file = folder / "pgbouncer.ini"
    is_root = os.geteuid() == 0
    text = PGBOUNCER.format(
        host=url.host,
        server_port=url.port or 5432,
        user=url.username,
        port=port,
        pool_size=pool_size,
        account="user = nobody" if is_root else "",
    )
    file.write_text(text)
    with running(["pgbouncer", "--quiet", str(file)], port):
        yield url.set(host="127.0.0.1", port=port)


@contextmanager
def running_proxy(kind: str, folder: Path, address: str) -> Iterator[str]:
    """Yield the address of a proxy, with compression, before a server."""
    port = find_free_port()
    file = folder / f"{kind}.conf"
    values = {"folder": folder, "port": port, "address": address, "modules": APACHE_MODULES}
    file.write_text(TEMPLATES[kind].format(**values))
    with running([part.format(file=file) for part in COMMANDS[kind]], port):
        yield f"http://127.0.0.1:{port}"
