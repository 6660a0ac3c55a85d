"""Images that run: the same answers as a local worker, as nobody, on a file system that nothing can write to."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_process import Running, route, until
from image_parts import AMD64, PYTHON, built
from running import container, names, podman

from stead import environments, gates, images, jobs, models, pipelines, runs
from stead.config import load_project, load_settings
from stead.processes.handlers import handlers
from stead.runtime import formats
from stead.store import Store
from tests.conftest import free_ports, needs, new_store
from tests.support.ray_cluster import Cluster

pytestmark = pytest.mark.timeout(900)  # images are built, loaded and run: minutes where the machine is busy
SERVER = str(Path(__file__).parents[2] / "support" / "api_server.py")
COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
PINS = [f"{name}=={version(name)}" for name in ("scikit-learn", "numpy", "skops", "pandas", "pyarrow")]
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 5.6, 2.4], [5.9, 3.0, 4.2, 1.5]]


@pytest.fixture(scope="session")
def real_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base as `stead image base` makes it."""
    needs("mmdebstrap", shutil.which("mmdebstrap") is not None, "apt-get install mmdebstrap")
    needs(f"a Debian with Python {PYTHON}", PYTHON in images.debian.SUITES, "run the tests with Python 3.11")
    target = tmp_path_factory.mktemp("base") / "base"
    images.make_base(target, python=PYTHON, platform=AMD64)
    return target


@pytest.fixture(scope="session")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with `flower@1`, a scikit-learn model in an environment of its own."""
    podman()
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    root = tmp_path_factory.mktemp("flowers")
    store = new_store(root / "store")
    environment = environments.lock(store, PINS).digest
    rows, target = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(rows, target)
    info = formats.save(model, root / "model", input_example=rows[:5], training=rows)
    logged = models.log_model(store, root / "model", name="flower", environment=environment, info=info)
    models.register(store, "flower", logged.id)
    models.register(store, "flower", logged.id, serving_image=True)
    yield store
    store.close()


@pytest.fixture(scope="session")
def flower(flowers: Store, real_base: Path) -> str:
    """The image of `flower@1` in podman."""
    contents = images.of_version(images.OfStore(flowers), "flower@1")
    image = images.build(flowers, contents, layout=images.pool(flowers), base=str(real_base), platform=AMD64)
    name = podman().load(image)
    assert podman().load(image) == name
    return name


@pytest.fixture(scope="session")
def served(flower: str) -> Iterator[httpx.Client]:
    """A container as careful people run one: read-only even where /tmp is, without privileges."""
    options = ["--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    with container(flower, *options) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def local(flowers: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The same server with the same worker, in the local environment."""
    from running import wait_for

    from tests.conftest import free_ports

    folder = tmp_path_factory.mktemp("local")
    told = models.get_version(flowers, "flower@1")
    (folder / "image.json").write_text(json.dumps({"model": "flower", "version": 1, "stead": "0"}))
    (folder / "model").symlink_to(models.materialise(flowers, told.logged_model))
    python = environments.ensure(flowers, told.serving_environment)
    (port,) = free_ports(1)
    environ = environments.variables() | {"PYTHONPATH": str(environments.runtime_path(flowers)), "PORT": str(port)}
    process = subprocess.Popen(
        [python, "-m", "stead.runtime.server", str(folder)], env=environ | {"PYTHONSAFEPATH": "1"}
    )
    wait_for(f"http://127.0.0.1:{port}/health", process)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client
    process.terminate()
    assert process.wait(20) == 0


RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
TENSOR: dict[str, Any] = {"name": "x", "shape": [3, 4], "datatype": "FP64", "data": ROWS}
ASKED: list[tuple[str, Any]] = [
    ("/predict/flower", {"rows": ROWS}),
    ("/predict/flower/versions/1", {"row": ROWS[0]}),
    ("/explain/flower/versions/1", {"rows": ROWS}),
    ("/invocations", {"inputs": ROWS}),
    ("/models/flower/invocations", {"dataframe_split": {"data": ROWS}}),
    ("/v2/models/flower/infer", {"inputs": [TENSOR], "id": "mine"}),
    ("/v2/models/flower/versions/1/infer", {"inputs": [TENSOR], "outputs": [{"name": "predict"}], "id": "mine"}),
    ("/predict/flower", {"rows": [[1, 2]]}),
    ("/predict/flower", {"rows": []}),
    ("/predict/flower", {"columns": {"x": [1], "y": [1, 2]}}),
    ("/predict/other", {"rows": ROWS}),
    ("/predict/flower/versions/2", {"rows": ROWS}),
    ("/v2/models/flower/infer", {"inputs": []}),
    ("/nowhere", {}),
]


@pytest.mark.parametrize(("path", "body"), ASKED)
def test_every_protocol_is_answered_as_the_local_worker_does(
    served: httpx.Client, local: httpx.Client, path: str, body: Any
) -> None:
    there, here = served.post(path, json=body), local.post(path, json=body)
    assert there.status_code == here.status_code
    mine, theirs = there.json(), here.json()
    if path.startswith("/explain"):  # the base's Python has another third number
        assert mine.pop("python").startswith(PYTHON) and theirs.pop("python").startswith(PYTHON)
    if there.status_code == 200:
        assert "prediction_id" not in mine or mine.pop("prediction_id") != theirs.pop("prediction_id")
    assert mine == theirs  # to the last bit: JSON carries every digit


def test_values_and_health(served: httpx.Client) -> None:
    assert served.post("/predict/flower", json={"rows": ROWS}).json()["predictions"] == [0, 2, 1]
    for path in ("/health", "/ping", "/v2/health/live", "/v2/health/ready", "/v2/models/flower/ready"):
        assert served.get(path).status_code == 200
    assert served.get("/v2/models/other/ready").status_code == 404
    assert served.get("/v2/models/flower").json()["versions"] == ["1"]
    assert served.get("/predict/flower").status_code == 405
    assert served.post("/predict/flower", content=b"{").status_code == 400
    assert served.post("/invocations", content=b"", headers={"Content-Encoding": "gzip"}).status_code == 415
    assert served.post("/predict/flower", content=b" " * (17 << 20)).status_code == 413
    chunks = (piece for piece in (b'{"ro', b'w": [5.1, 3.5, 1.4, 0.2]}'))
    assert served.post("/predict/flower", content=chunks).json()["predictions"] == [0]
    head = served.post("/predict/flower", json={"row": ROWS[0]}).headers
    assert head["X-Stead-Version"] == "1" and len(head["X-Stead-Prediction-Id"]) == 32


def test_other_peoples_clients(served: httpx.Client) -> None:
    import numpy as np
    import tritonclient.http as triton_http

    client = triton_http.InferenceServerClient(str(served.base_url).removeprefix("http://").rstrip("/"))
    asked = triton_http.InferInput("x", [3, 4], "FP64")
    asked.set_data_from_numpy(np.array(ROWS), binary_data=True)
    wanted = triton_http.InferRequestedOutput("predict", binary_data=True)
    assert client.infer("flower", [asked], outputs=[wanted]).as_numpy("predict").tolist() == [0, 2, 1]
    client.close()


def test_it_runs_as_nobody_and_can_write_nowhere(flower: str) -> None:
    script = (
        "import os, json; from pathlib import Path\n"
        "def can(path):\n"
        "    try: Path(path, 'x').write_text(''); return True\n"
        "    except OSError: return False\n"
        "print(json.dumps([os.getuid(), [p for p in ('/', '/opt/stead', '/opt/stead/model', '/usr', '/etc') if can(p)]]))"
    )
    command = [*podman().command, "run", "--rm", "--network", "none", *podman().options]
    for options in ([], ["--read-only"]):
        entry = ["--entrypoint", "/opt/stead/env/bin/python", flower, "-c", script]
        done = subprocess.run([*command, *options, *entry], capture_output=True, text=True)
        assert json.loads(done.stdout) == [65532, []], done.stderr


def test_it_ends_when_it_is_told_to(flower: str) -> None:
    name = f"stead-test-{uuid.uuid4().hex[:8]}"
    with container(flower, name=name):
        done = subprocess.run([*podman().command, "stop", "--time", "60", name], capture_output=True, text=True)
        assert done.returncode == 0 and "SIGKILL" not in done.stderr, done.stderr


def test_the_base_is_the_same_bytes_twice_and_knows_its_packages(real_base: Path, tmp_path: Path) -> None:
    again = images.make_base(tmp_path / "base", python=PYTHON, platform=AMD64)
    (first,) = json.loads((real_base / "index.json").read_text())["manifests"]
    assert again.digest == first["digest"]
    found = images.bases.find(images.Layout(tmp_path / "pool"), str(real_base), python=PYTHON, platform=AMD64)
    assert found.python == f"/usr/bin/python{PYTHON}"
    assert {"libc6", "libgomp1"} <= {package["name"] for package in found.packages}
    assert all(len(package["sha256"]) == 64 for package in found.packages)


def test_the_dockerfile_builds_the_same_files_and_settings(shelf: Store, base: Path, tmp_path: Path) -> None:
    image = built(shelf, base, tmp_path / "pool")
    context = images.write_context(image, tmp_path / "context")
    engine = podman()
    build = [*engine.command, "build", "--quiet", "--tag", "localhost/by-dockerfile", str(context)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name = engine.load(image)
    told, made = ({}, {}), []
    for each, ref in zip(told, (name, "localhost/by-dockerfile"), strict=True):
        shown = subprocess.run([*engine.command, "image", "inspect", ref], capture_output=True, text=True, check=True)
        config = json.loads(shown.stdout)[0]["Config"]
        each |= {key: config.get(key) for key in ("User", "Entrypoint", "WorkingDir", "StopSignal", "ExposedPorts")}
        each |= {"Env": sorted(config["Env"]), "Cmd": config.get("Cmd") or []}
        each["Labels"] = {k: v for k, v in config["Labels"].items() if k != "io.buildah.version"}
        mounted = subprocess.run([*engine.command, "image", "mount", ref], capture_output=True, text=True, check=True)
        made.append(_tree(Path(mounted.stdout.strip())))
        subprocess.run([*engine.command, "image", "unmount", ref], capture_output=True, check=True)
    assert told[0] == told[1]
    assert made[0] == made[1]


def _tree(root: Path) -> dict[str, Any]:
    """Kind, mode, owner and content of all files and links."""
    found: dict[str, Any] = {}
    for path in root.rglob("*"):
        stat, name = path.lstat(), str(path.relative_to(root))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = (oct(stat.st_mode), stat.st_uid, stat.st_gid, path.read_bytes())
    return found


def settings(base: Path) -> dict[str, str]:
    engine = podman()
    told = {"container_engine": engine.command, "container_options": engine.options}
    return {name: shlex.join(value) for name, value in told.items()} | {"image_base": str(base)}


def test_a_deployment_in_its_image_answers_as_the_local_one_and_ends_with_its_gateway(
    flowers: Store, real_base: Path, tmp_path: Path
) -> None:
    route(flowers, "flower", (2, 1.0), warm=(1,))
    gateway = Running(flowers, tmp_path / "log", workers=1, **settings(real_base))
    try:
        until(lambda: gateway.http.post("/predict/flower", json={"rows": ROWS}).status_code == 200, 90)
        until(lambda: gateway.http.post("/predict/flower/versions/1", json={"rows": ROWS}).status_code == 200, 60)
        both = [gateway.http.post(f"/explain/flower/versions/{n}", json={"rows": ROWS}).json() for n in (1, 2)]
        assert both[0]["outputs"] == both[1]["outputs"]
        assert both[0]["features"] == both[1]["features"] and both[0]["libraries"] == both[1]["libraries"]
        verdict = gates.parity(flowers, "flower@2", gateway_url=gateway.url)
        assert verdict.outcome == "passed", verdict
        (name,) = names("stead-worker-")
        subprocess.run([*podman().command, "kill", name], check=True, capture_output=True)
        assert gateway.http.post("/predict/flower", json={"rows": ROWS}).json()["predictions"] == [0, 2, 1]
        assert names("stead-worker-") not in ([], [name])
        gateway.kill()
        until(lambda: names("stead-worker-") == [])
    finally:
        gateway.kill()


TOML = """[project]
name = "tiny"
requirements = {pins}

[models.tiny]
code = "tiny.py"
target = "y"
time = "t"

[models.tiny.train]
image = true

[models.tiny.serve]
image = true
"""
CODE = """import os
import time

import pandas as pd
import stead
from sklearn.linear_model import LinearRegression

HANGS = False
while HANGS:
    time.sleep(1)


def ingest(since, until):
    t = pd.date_range(since, until, freq="h", inclusive="left", unit="us")
    return pd.DataFrame({"t": t, "x": range(len(t)), "y": [2.0 * i for i in range(len(t))]})


def features(raw):
    return raw[["x"]]


def train(X, y):
    assert os.path.isdir("/opt/stead/env") and not os.access("/opt/stead", os.W_OK) and os.getuid() != 0
    stead.log({"rows": len(X)}, step=0)
    return LinearRegression().fit(X, y)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "tiny"
    root.mkdir()
    (root / "stead.toml").write_text(TOML.format(pins=json.dumps(PINS)))
    (root / "tiny.py").write_text(CODE)
    return root


def ask(store: Store, project: Path) -> jobs.Job:
    spec = pipelines.pack(load_project(project), "tiny", store.blobs.put)
    return pipelines.train(store, "tiny", spec=spec, since=0, until=200 * 3_600_000)


def test_training_steps_run_in_the_image_of_their_environment(flowers: Store, real_base: Path, project: Path) -> None:
    environ = {f"STEAD_{name.upper()}": value for name, value in settings(real_base).items()}
    job = ask(flowers, project)
    said: list[str] = []
    mine = handlers(load_settings(environ=environ))
    done = jobs.work(flowers, mine, owner="test", job_id=job.id, echo=said.append)
    assert done is not None and done.state == "succeeded", (done, said)
    trained = models.get_version(flowers, "tiny@1")
    assert trained.serving_image and trained.serving_environment == environments.lock(flowers, PINS).digest
    logged = models.get_logged_model(flowers, trained.logged_model)
    assert logged.metrics["holdout_random"] < 1e-6
    assert trained.run_id and runs.get_run(flowers, trained.run_id).metrics["rows"].last == 200
    assert names("stead-step-") == []


def test_training_steps_run_in_the_image_on_a_cluster(
    flowers: Store, real_base: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = (project / "stead.toml").read_text().replace("image = true", 'image = true\nexecutor = "ray"', 1)
    (project / "stead.toml").write_text(toml.replace('name = "tiny"', 'name = "elsewhere"'))
    (port,) = free_ports(1)
    environ = {f"STEAD_{name.upper()}": value for name, value in settings(real_base).items()}
    environ |= {"STEAD_STORE": str(flowers.root), "STEAD_SERVER_URL": f"http://127.0.0.1:{port}"}
    cluster = Cluster()
    server = subprocess.Popen([sys.executable, SERVER, str(port)], env={**os.environ, **environ})
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
    try:
        mine = handlers(load_settings(environ=environ | {"STEAD_RAY_ADDRESS": cluster.address}))
        job = ask(flowers, project)
        said: list[str] = []
        done = jobs.work(flowers, mine, owner="test", job_id=job.id, echo=said.append)
        assert done is not None and done.state == "succeeded", (done, said)
        assert runs.get_run(flowers, job.id).metrics["rows"].last == 200
        assert names("stead-step-") == []
    finally:
        cluster.close()
        server.kill()
        server.wait()


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_a_step_ends_with_its_job(flowers: Store, real_base: Path, project: Path, how: str) -> None:
    (project / "tiny.py").write_text(CODE.replace("HANGS = False", "HANGS = True"))
    environ = {f"STEAD_{name.upper()}": value for name, value in settings(real_base).items()}
    job = ask(flowers, project)
    script = (
        "import sys; from pathlib import Path; from tests.conftest import new_store; from stead import jobs\n"
        "from stead.config import load_settings; from stead.processes.handlers import handlers\n"
        "jobs.work(new_store(Path(sys.argv[1])), handlers(load_settings()), owner='me', job_id=sys.argv[2])"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(flowers.root), job.id], env={**os.environ, **environ})
    try:
        until(lambda: names("stead-step-"), 60)
        if how == "cancel":
            jobs.cancel_job(flowers, job.id)
            assert process.wait(60) == 0
            assert jobs.get_job(flowers, job.id).state == "cancelled"
        else:
            process.kill()
        until(lambda: names("stead-step-") == [])
    finally:
        process.kill()
        process.wait()


def test_without_an_engine_it_says_so(flowers: Store, project: Path) -> None:
    job = ask(flowers, project)
    mine = handlers(load_settings(environ={"STEAD_CONTAINER_ENGINE": "no-such-engine"}))
    done = jobs.work(flowers, mine, owner="test", job_id=job.id)
    assert done is not None and done.error is not None and done.error["code"] == "engine-missing"
