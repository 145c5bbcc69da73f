"""A terminal into which the commands of the guide are pasted, and the service that they start."""

import os
import re
import shlex
import subprocess
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import make_url

from tests.support.processes import Server
from tests.support.proxies import GUIDE

HEADING_OR_BLOCK = re.compile(r"^## (.+?)$|^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Runs until it is stopped.
SERVE = re.compile(r"^\.venv/bin/blog-api serve .*\n", re.MULTILINE)
# The number of a process in the pages.
PROCESS = "783"

COMMAND = """\
#!{python}
from blog_api.__main__ import cli

if __name__ == "__main__":
    cli()
"""
# It would download packages. The code is used where it is, so there is nothing to install.
PIP = """\
#!/bin/sh
test "$*" = "install -e ."
"""


def read_blocks(page: str) -> dict[str, list[str]]:
    """Return the blocks of commands of a page of the guide, by their headings."""
    blocks: dict[str, list[str]] = {}
    heading = ""
    for found in HEADING_OR_BLOCK.finditer((GUIDE / f"{page}.md").read_text()):
        if found[1]:
            heading = found[1]
        else:
            blocks.setdefault(heading, []).append(found[2])
    return blocks


def install(folder: Path) -> None:
    """Do what the README's `pip install -e .` does in a clone, without a network."""
    venv.create(folder / ".venv")
    paths = sysconfig.get_paths(vars={"base": str(folder / ".venv")})
    packages = Path(paths["purelib"]) / "packages.pth"
    packages.write_text(f"{folder}\n{sysconfig.get_paths()['purelib']}\n")
    programs = folder / ".venv" / "bin"
    for name, text in (("blog-api", COMMAND.format(python=programs / "python")), ("pip", PIP)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)


class Terminal:
    """A shell in a folder. What a block exports is there in the next one."""

    def __init__(
        self, folder: Path, replaced: Mapping[str, str], programs: Path, user: str | None = None
    ) -> None:
        self.folder = folder
        self.pasted: set[str] = set()
        self._replaced = dict(replaced)
        self._user = user
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("BLOG_", "PG", "PYTHON"))
        }
        self.environment |= {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "GIT_CONFIG_GLOBAL": "/dev/null",
        }

    def paste(self, block: str, process: int = 0) -> str:
        """Run a block with our addresses, and return what it prints. Fails if one command fails.

        A command that serves is left to `OperatedServer`.
        """
        self.pasted.add(block)
        script = self._replace(SERVE.sub("", block)).replace(PROCESS, str(process))
        state = self.folder / "environment"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{script}\nenv -0 > {state}"],
            cwd=self.folder,
            env=self.environment,
            user=self._user,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        variables = state.read_text().rstrip("\0").split("\0")
        self.environment = dict(variable.split("=", 1) for variable in variables)
        return done.stdout + done.stderr

    def find_serve_command(self, block: str) -> list[str]:
        """Return the command of a block that serves."""
        (command,) = SERVE.findall(block)
        return shlex.split(self._replace(command))

    def _replace(self, text: str) -> str:
        for words, ours in self._replaced.items():
            text = text.replace(words, ours)
        return text


class OperatedServer(Server):
    """The service, started by the command of a block."""

    def __init__(self, terminal: Terminal, block: str) -> None:
        super().__init__(terminal.folder, make_url("sqlite://"), workers=2)
        self.environment = terminal.environment
        self.command = terminal.find_serve_command(block)
        self.terminal = terminal

    def wait_for_workers(self, number: int) -> None:
        """Wait until so many workers have ended because others replaced them."""
        while self.log.count("Finished server process") < number:
            self._append_line()

    def reload(self, block: str) -> str:
        """Paste a block that ends with a SIGHUP, and wait until all workers are replaced."""
        ended = self.read_log().count("Finished server process")
        output = self.terminal.paste(block, self.process.pid)
        self.wait_for_workers(ended + self.workers)
        return output

    def find_worker(self) -> int:
        """Return the process of the worker that started last."""
        return int(re.findall(r"Started server process \[(\d+)\]", self.read_log())[-1])
