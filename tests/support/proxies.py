"""nginx and Apache as compressing proxies before a server, and PgBouncer before Postgres."""

import os
import random
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from sqlalchemy import URL

import blog_api.web

START_SECONDS = 60
GUIDE = Path(blog_api.web.__file__).parent / "guide"

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


def find_fixed_port() -> int:
    """Return a free port that no client gets as its own while the server of it is stopped."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        with socket.socket() as listener:
            port = random.randrange(10_000, first)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
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


def read_guide_block(language: str) -> str:
    """Return the block in this language of the guide's page about proxies."""
    page = (GUIDE / "run-as-a-service.md").read_text()
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    return str(block)


@contextmanager
def running_guide_proxy(kind: str, folder: Path, address: str) -> Iterator[int]:
    """Yield the port of a proxy with the guide's configuration, but without TLS."""
    port = find_free_port()
    file = folder / kind
    if kind == "nginx":
        block = read_guide_block("nginx").replace("443 ssl", f"127.0.0.1:{port}")
        block = re.sub(r" *ssl_.*\n", "", block).replace("http://127.0.0.1:8000", address)
        start = NGINX[: NGINX.index("    gzip on")].format(folder=folder)
        file.write_text(f"{start}{block}}}")
        command = ["nginx", "-e", f"{file}.log", "-c", str(file)]
    else:
        block = read_guide_block("caddyfile").replace(
            "blog.example.com", f"http://127.0.0.1:{port}"
        )
        block = block.replace("127.0.0.1:8000", address.removeprefix("http://"))
        file.write_text(block.replace("{\n", "{\n    admin off\n", 1))
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]
    with running(command, port, {"HOME": str(folder)}):
        yield port


@contextmanager
def running(
    command: Sequence[str], port: int, variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[None]:
    """Run a proxy that listens on a port."""
    process = subprocess.Popen(command, env={**os.environ, **variables})
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
