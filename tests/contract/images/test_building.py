"""What an image holds, that it is the same bytes each time, and what it cannot be built of."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from image_parts import AMD64, PYTHON, built, document, files, make_base, register, thin_environment

from stead import care, environments, images, jobs, serving
from stead.cli import cli
from stead.errors import Failed, InvalidInput, NotFound, SteadError
from stead.images import bases, keeping
from stead.images.layers import Entry
from stead.images.types import INDEX, PLATFORMS
from stead.store import Store
from tests.conftest import new_store

SITE = f"opt/stead/env/lib/python{PYTHON}/site-packages"

ELSEWHERE = """
import os, sys, time
from pathlib import Path
os.umask(int(sys.argv[4], 8))
wall = time.time
time.time = lambda: wall() + 90 * 86400
from tests.conftest import new_store
from image_parts import built
store = new_store(Path(sys.argv[1]))
print(built(store, sys.argv[2], Path(sys.argv[3])).digest)
"""


def test_it_is_the_same_bytes_in_another_folder_with_another_umask_on_another_day(
    shelf: Store, base: Path, tmp_path: Path
) -> None:
    here = built(shelf, base, tmp_path / "pool")
    digests = {here.digest}
    for number, umask in enumerate(("077", "000")):
        place = tmp_path / f"elsewhere-{number}"
        shutil.copytree(shelf.root, place / "a" / "store")
        shutil.copytree(base, place / "base")
        for path in place.rglob("*"):
            os.utime(path, (1_000_000_000, 1_000_000_000))
        arguments = [str(place / "a" / "store"), str(place / "base"), str(place / "pool"), umask]
        environ = {**os.environ, "HOME": str(place), "TMPDIR": str(place), "PYTHONHASHSEED": str(number), "LANG": "C"}
        environ["UV_CACHE_DIR"] = environments_cache()
        environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:1], str(Path(__file__).parent), *sys.path])
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, *arguments], env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout.strip().splitlines()[-1])
    assert len(digests) == 1


def environments_cache() -> str:
    import uv

    done = subprocess.run([uv.find_uv_bin(), "cache", "dir"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_another_zlib_changes_nothing(
    shelf: Store, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = built(shelf, base, tmp_path / "first")

    def other(*_: object, **__: object) -> None:
        raise AssertionError("zlib of this Python compresses nothing")

    monkeypatch.setattr(zlib, "compress", other)
    monkeypatch.setattr(zlib, "compressobj", other)
    assert built(shelf, base, tmp_path / "second").digest == first.digest
    monkeypatch.setattr("stead.images.layers.CODEC", "0.8.0")
    with pytest.raises(Failed) as raised:
        built(shelf, base, tmp_path / "third")
    assert raised.value.code == "codec-other"


def test_it_holds_what_the_version_needs_and_belongs_to_nobody(shelf: Store, base: Path, tmp_path: Path) -> None:
    image = built(shelf, base, tmp_path / "pool")
    found = files(image)
    assert found["opt/stead/model/code/demand.py"][1] == b"def load():\n    return 42\n"
    assert json.loads(found["opt/stead/image.json"][1])["model"] == "demand"
    assert "opt/stead/runtime/stead/runtime/server.py" in found
    assert f"{SITE}/threadpoolctl.py" in found
    assert found["opt/stead/env/bin/python"][0].linkname == f"/usr/bin/python{PYTHON}"
    for name, (member, data) in found.items():
        assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", 315532800), name
        assert member.mode in (0o644, 0o755, 0o777) and not (member.isfile() and member.mode & 0o022), name
        for told in (str(Path.home()), str(tmp_path), sys.prefix, str(shelf.root)):
            assert told == "/" or told.encode() not in data, f"{name} tells of {told}"
    compiled = [name for name in found if name.endswith(".pyc")]
    assert len(compiled) > 30
    for name in compiled:
        data = found[name][1]
        assert data[:4] == importlib.util.MAGIC_NUMBER and data[4:8] == b"\1\0\0\0", f"{name} is checked by time"
        source = found[importlib.util.source_from_cache(name)][1]
        assert data[8:16] == importlib.util.source_hash(source)
    assert f"{SITE}/__pycache__/threadpoolctl.{sys.implementation.cache_tag}.pyc" in compiled


def test_its_settings(shelf: Store, base: Path, tmp_path: Path) -> None:
    env = {"FLOOR": "2", "PASSWORD": "env:WAREHOUSE_PASSWORD"}
    version = register(shelf, thin_environment(shelf), env=env)
    image = built(shelf, base, tmp_path / "pool", version.ref)
    config = document(image, image.config)["config"]
    told = dict(line.split("=", 1) for line in config["Env"])
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/opt/stead/env/bin/python", "-m", "stead.runtime.server", "/opt/stead"]
    assert "Cmd" not in config and config["ExposedPorts"] == {"8080/tcp": {}}
    assert told["GREETING"] == "hello" and told["FLOOR"] == "2" and told["OMP_NUM_THREADS"] == "1"
    assert "PASSWORD" not in told and told["STEAD_SECRETS"] == "PASSWORD"
    assert told["PATH"] == "/opt/stead/env/bin:/usr/bin"
    labels = config["Labels"]
    assert labels["vendor"] == "us"
    assert labels["org.opencontainers.image.title"] == version.ref
    assert labels["org.opencontainers.image.base.digest"] == image.base
    assert labels["stead.environment"] == version.serving_environment
    assert "WAREHOUSE_PASSWORD" not in json.dumps(document(image, image.config))


def test_its_bill_of_materials_has_every_package_with_its_hash(shelf: Store, base: Path, tmp_path: Path) -> None:
    image = built(shelf, base, tmp_path / "pool")
    bill = json.loads(files(image)["opt/stead/sbom.cdx.json"][1])
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(json.dumps(bill)) is None
    parts = {part["name"]: part for part in bill["components"]}
    environment = environments.get(shelf, thin_environment(shelf))
    lock = shelf.blobs.get(environment.lock).decode()
    for name, version in environment.packages.items():
        assert parts[name]["version"] == version
        assert parts[name]["purl"] == f"pkg:pypi/{name}@{version}"
        assert f"--hash=sha256:{parts[name]['hashes'][0]['content']}" in lock
    assert parts["libc6"]["hashes"][0]["content"] == "a" * 64
    assert "gone" not in parts
    assert parts["model/code/demand.py"]["hashes"][0]["alg"] == "BLAKE3"


def test_the_image_that_trains_has_the_code_and_no_model(shelf: Store, base: Path, tmp_path: Path) -> None:
    image = built(shelf, base, tmp_path / "pool", kind="train")
    found = files(image)
    assert found["opt/stead/code/demand.py"][1].startswith(b"def train")
    assert not any(name.startswith("opt/stead/model") for name in found)
    config = document(image, image.config)["config"]
    assert config["Entrypoint"][1:] == ["-m", "stead.runtime.step"] and "ExposedPorts" not in config


def test_layers_are_shared_and_what_is_missing_is_made_again(shelf: Store, base: Path, tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    first = built(shelf, base, pool)
    layers = [layer["digest"] for layer in document(first, first.digest)["layers"]]
    other = built(shelf, base, pool, register(shelf, thin_environment(shelf), env={"A": "1"}).ref)
    assert [layer["digest"] for layer in document(other, other.digest)["layers"]][:3] == layers[:3]
    for path in (pool / "blobs" / "sha256").iterdir():
        path.unlink()
    assert built(shelf, base, pool) == first


def test_builds_that_write_the_same_folder_at_once_leave_one_of_them_whole(
    shelf: Store, base: Path, tmp_path: Path
) -> None:
    image = built(shelf, base, tmp_path / "pool")
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(images.export, image, tmp_path / "out" / "image") for _ in range(60)]:
            done.result()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["image"]
    assert built(shelf, tmp_path / "out" / "image", tmp_path / "pool").base == image.digest


def test_layers_that_no_build_used_for_a_month_are_let_go(shelf: Store, base: Path) -> None:
    pool = images.pool(shelf)
    make_base(pool.folder / "bases" / "made")

    def there() -> dict[Path, int]:
        return {path: path.stat().st_size for path in pool.folder.rglob("*") if path.is_file()}

    def age(days: int) -> None:
        for path in there():
            os.utime(path, (time.time() - days * 86_400,) * 2)

    def stead(*arguments: str) -> str:
        done = CliRunner().invoke(cli, arguments, env={"STEAD_STORE": str(shelf.root)}, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    first = built(shelf, base, pool.folder)
    age(29)
    assert "images" not in stead("prune", "--yes")
    age(31)
    other = built(shelf, base, pool.folder, register(shelf, thin_environment(shelf), env={"C": "1"}).ref)
    before = there()
    assert "layers of images" in stead("prune") and "next: stead data gc --yes" in stead("data", "gc")
    assert there() == before
    freed = care.prune(shelf, rules=care.Rules()).image_bytes
    gone = before.keys() - there().keys()
    assert freed == sum(before[path] for path in gone)
    assert {first.digest[7:], first.config[7:]} <= {path.name for path in gone}
    assert not [path for path in gone if "bases" in path.parts]
    images.export(other, shelf.root / "exported")  # what the second build used is there


def test_a_build_loses_nothing_while_it_runs(shelf: Store, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "UNUSED_S", 0)
    pool = images.pool(shelf)
    image = built(shelf, base, pool.folder)
    freed: list[int] = []
    contents = images.of_version(images.OfStore(shelf), "demand@1")

    def say(_: str) -> None:
        freed.append(care.prune(shelf, rules=care.Rules()).image_bytes)

    assert images.build(shelf, contents, layout=pool, base=str(base), platform=AMD64, say=say) == image
    assert freed == [0]
    assert care.prune(shelf, rules=care.Rules()).image_bytes > image.bytes
    assert built(shelf, base, pool.folder) == image


def test_layers_stay_as_long_as_a_version_serves_from_an_image(
    shelf: Store, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "UNUSED_S", 0)
    image = built(shelf, base, images.pool(shelf).folder)
    served = register(shelf, thin_environment(shelf), env={"D": "1"}, image=True)
    with shelf.db.write("deployments.step") as tx:
        serving.set_route(shelf.db, tx, "demand", arms=[serving.Arm(served.version, 1.0)])
    for dry_run in (True, False):
        assert care.prune(shelf, rules=care.Rules(), dry_run=dry_run).image_bytes == 0
    with shelf.db.write("deployments.step") as tx:
        serving.set_route(shelf.db, tx, "demand", arms=[])
    assert care.prune(shelf, rules=care.Rules()).image_bytes > image.bytes


@pytest.mark.parametrize("name", ["image", "image.tar"])
def test_an_export_is_whole_or_not_there(shelf: Store, base: Path, tmp_path: Path, name: str) -> None:
    image = built(shelf, base, tmp_path / "pool")
    target = tmp_path / "out" / name
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if name.endswith(".tar"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            with pytest.raises(Failed) as raised:
                images.export(image, target)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert raised.value.code == "disk-full"
        assert list(target.parent.iterdir()) == []
    images.export(image, target)
    images.export(image, target)  # over itself
    assert [path.name for path in target.parent.iterdir()] == [name]
    if target.is_dir():
        (other := tmp_path / "other").mkdir()
        (other / "mine.txt").write_text("mine")
        with pytest.raises(InvalidInput) as refused:
            images.export(image, other)
        assert refused.value.code == "folder-not-empty" and (other / "mine.txt").read_text() == "mine"
        with pytest.raises(InvalidInput) as refused:
            images.export(image, base)  # a layout of somebody else's, that it is built on besides
        assert refused.value.code == "folder-not-empty" and (base / "index.json").is_file()
        (legacy,) = json.loads((target / "manifest.json").read_text())
        assert legacy["RepoTags"] == ["localhost/stead/demand:1"]
        assert all((target / each).is_file() for each in (legacy["Config"], *legacy["Layers"]))


def test_a_full_disk_leaves_no_half_blob(shelf: Store, base: Path, tmp_path: Path) -> None:
    image = built(shelf, base, tmp_path / "pool")
    runtime = document(image, image.digest)["layers"][2]["digest"]
    (tmp_path / "pool" / "blobs" / runtime.replace(":", "/")).unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(Failed) as raised:
            built(shelf, base, tmp_path / "pool")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.code == "disk-full"
    assert not [path for path in (tmp_path / "pool").rglob("*") if path.name.startswith(".")]
    assert built(shelf, base, tmp_path / "pool") == image


def test_a_dockerfile_copies_the_same_files_and_says_the_same(shelf: Store, base: Path, tmp_path: Path) -> None:
    image = built(shelf, base, tmp_path / "pool")
    context = images.write_context(image, tmp_path / "context")
    lines = (context / "Dockerfile").read_text().splitlines()
    assert "FROM scratch" in lines and "ADD base-0.tar.gz /" in lines
    for name, (member, data) in files(image).items():
        (place,) = [p for p in (context / part / name for part in ("environment", "runtime", "own")) if _there(p)] or [
            None
        ]
        assert place is not None or member.isdir(), name
        if member.isfile():
            assert place is not None and place.read_bytes() == data
            assert place.stat().st_mode & 0o777 == member.mode
    assert 'ENV GREETING="hello"' in lines and "USER 65532:65532" in lines
    with pytest.raises(InvalidInput):
        images.write_context(image, context)


def _there(path: Path) -> bool:
    return os.path.lexists(path) and (path.is_symlink() or not path.is_dir())


def test_a_base_that_does_not_fit_is_refused_by_name(shelf: Store, tmp_path: Path) -> None:
    wrong = {
        "base-python": make_base(tmp_path / "old", python="2.7"),
        "base-musl": make_base(tmp_path / "musl", files=(Entry("lib/ld-musl-x86_64.so.1"),)),
        "image-platform": make_base(tmp_path / "arm", architectures=("arm64",)),
        "image-unknown": tmp_path,
        "base-missing": "",
    }
    for code, base in wrong.items():
        with pytest.raises((InvalidInput, NotFound)) as raised:
            built(shelf, base, tmp_path / "pool")
        assert raised.value.code == code
    both = make_base(tmp_path / "both", architectures=("arm64", "amd64"))
    assert built(shelf, both, tmp_path / "pool").platform == "linux/amd64"


def test_a_base_that_was_changed_is_refused(shelf: Store, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    largest = max((base / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[-20] ^= 1
    largest.write_bytes(data)
    with pytest.raises(Failed) as raised:
        built(shelf, base, tmp_path / "pool")
    assert raised.value.code == "image-corrupt"
    largest.unlink()
    with pytest.raises(NotFound) as missing:
        built(shelf, base, tmp_path / "pool")
    assert missing.value.code == "image-incomplete"


def refused(shelf: Store, base: Path, pool: Path) -> Failed:
    """How a base that is not of OCI's form is refused; what there is in the pool is whole."""
    with pytest.raises(Failed) as raised:
        built(shelf, base, pool)
    assert raised.value.code == "image-corrupt"
    for path in filter(Path.is_file, pool.rglob("*")):
        images.Layout(pool).read(f"sha256:{path.name}")
    return raised.value


@pytest.mark.parametrize(
    "config",
    [
        [1],
        b"[" * 100_000,
        b'{"architecture": "amd64", "rootfs": ',
        {"rootfs": None},
        {"rootfs": []},
        {"rootfs": {"diff_ids": None}},
        {"rootfs": {"diff_ids": ["sha256:12"]}},
        {"rootfs": {"diff_ids": []}},
        {"architecture": None},
        {"config": [1]},
        {"config": {"Env": "PATH=/bin"}},
        {"config": {"Env": [None]}},
        {"config": {"Labels": ["a"]}},
        {"config": {"Labels": {"a": 1}}},
        {"config": {"Labels": {"a": "\ud800"}}},
        {"history": 7},
    ],
    ids=lambda config: str(config)[:40],
)
def test_a_base_whose_configuration_has_another_form_is_corrupt(shelf: Store, tmp_path: Path, config: object) -> None:
    said = refused(shelf, make_base(tmp_path / "base", config=config), tmp_path / "pool")
    assert "sha256:" in said.message


@pytest.mark.parametrize("size", [0, 10**9, -1, "7", 10**400])
def test_a_base_with_a_layer_of_another_size_than_it_says_is_corrupt(
    shelf: Store, tmp_path: Path, size: object
) -> None:
    refused(shelf, make_base(tmp_path / "base", layer_size=size), tmp_path / "pool")


@pytest.mark.parametrize(
    "index", [b"[]", b"7", b"null", b'{"manifests": {}}', b'{"manifests": [7]}', b"[" * 100_000, b"\xff", b" " * (9 << 20)],
    ids=lambda index: str(index[:20]),
)  # fmt: skip
def test_a_layout_whose_index_has_another_form_is_corrupt(shelf: Store, tmp_path: Path, index: bytes) -> None:
    base = make_base(tmp_path / "base")
    (base / "index.json").write_bytes(index)
    assert str(base) in refused(shelf, base, tmp_path / "pool").message


def test_indexes_in_each_other_have_an_end(shelf: Store, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    index = (base / "index.json").read_bytes()
    built(shelf, base, tmp_path / "pool")
    for depth in range(5):
        inner = images.Layout(base).put(index, INDEX).as_dict()
        index = json.dumps({"manifests": [inner]}).encode()
        (base / "index.json").write_bytes(index)
        if depth == 1:
            built(shelf, base, tmp_path / "pool")
    with pytest.raises(Failed) as raised:
        built(shelf, base, tmp_path / "pool")
    assert raised.value.code == "image-corrupt"


def test_a_layer_that_unpacks_without_an_end_is_not_read_to_it(
    shelf: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bases, "UNPACKED", 1 << 20)
    base = make_base(tmp_path / "base", files=(Entry("aaa", bytes(8 << 20)),))
    with pytest.raises(Failed) as raised:
        built(shelf, base, tmp_path / "pool")
    assert raised.value.code == "image-corrupt" and "unpacks to more than 1.0 MB" in raised.value.message
    monkeypatch.setattr(bases, "UNPACKED", 1 << 30)
    monkeypatch.setattr(bases, "LARGEST_LIST", 100)
    with pytest.raises(Failed) as raised:
        built(shelf, base, tmp_path / "pool")
    assert "its list of packages has" in raised.value.message


def test_a_manifest_for_another_processor_is_refused_where_no_index_says_so(shelf: Store, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", config={"architecture": "arm64"})
    with pytest.raises(NotFound) as raised:
        built(shelf, base, tmp_path / "pool")
    assert raised.value.code == "image-platform" and "arm64" in raised.value.message


def shelf_lock(store: Store, *requirements: str) -> str:
    return store.blobs.get(environments.lock(store, requirements).lock).decode()


def test_a_lock_for_another_platform(tmp_path: Path, base: Path) -> None:
    store = new_store(tmp_path / "store")
    lock = store.blobs.get(environments.get(store, thin_environment(store)).lock).decode()
    foreign = environments.add(store, lock=store.blobs.put(lock.encode()), python=PYTHON, platform="darwin-arm64")
    assert built(store, base, tmp_path / "pool", register(store, foreign.digest).ref).platform == "linux/amd64"
    whole = shelf_lock(store, "keyring")
    without = re.sub(r"(?m)^secretstorage==.*(\n +--hash.*)+\n", "", whole)
    assert without != whole
    lacking = environments.add(store, lock=store.blobs.put(without.encode()), python=PYTHON, platform="darwin-arm64")
    with pytest.raises(InvalidInput) as raised:
        built(store, base, tmp_path / "pool", register(store, lacking.digest).ref)
    assert raised.value.code == "lock-platform" and "secretstorage" in raised.value.message
    store.close()


def test_packages_without_a_wheel_are_named(tmp_path: Path, base: Path) -> None:
    store = new_store(tmp_path / "store")
    environment = environments.lock(store, ["docopt==0.6.2", "pyaes==1.6.1"])  # have none
    version = register(store, environment.digest)
    with pytest.raises(InvalidInput) as raised:
        built(store, base, tmp_path / "pool", version.ref)
    assert raised.value.code == "wheel-missing"
    assert raised.value.message.endswith("linux/amd64: docopt==0.6.2, pyaes==1.6.1")
    store.close()


def test_for_arm64_it_holds_wheels_of_that_processor(shelf: Store, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", architectures=("arm64",))
    contents = images.of_version(images.OfStore(shelf), "demand@1")
    image = images.build(
        shelf, contents, layout=images.Layout(tmp_path / "pool"), base=str(base), platform=PLATFORMS["arm64"]
    )
    found = files(image)
    (library,) = [data for name, (_, data) in found.items() if name.endswith(".so")]
    assert library[:4] == b"\x7fELF" and int.from_bytes(library[18:20], "little") == 183  # EM_AARCH64
    assert document(image, image.config)["architecture"] == "arm64"
    bill = json.loads(found["opt/stead/sbom.cdx.json"][1])
    (wheel,) = [p["properties"][0]["value"] for p in bill["components"] if p["name"] == "msgspec"]
    assert "aarch64" in wheel
    with suppress(NotFound):
        images.build(shelf, contents, layout=images.Layout(tmp_path / "pool"), base=str(base), platform=AMD64)
        raise AssertionError("the base is for arm64 only")


def test_wheels_that_the_store_keeps_need_no_index(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path / "store")
    version = register(store, thin_environment(store))
    usual = built(store, base, tmp_path / "usual", version.ref)
    job = environments.vendor(store, version.serving_environment)
    done = jobs.work(store, {"vendor": environments.run_vendor}, owner="test", job_id=job.id)
    assert done is not None and done.state == "succeeded", done
    for name, value in (("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple"), ("UV_CACHE_DIR", str(tmp_path / "empty"))):
        monkeypatch.setenv(name, value)
    assert built(store, base, tmp_path / "pool", version.ref).digest == usual.digest
    store.close()


def test_the_command(shelf: Store, base: Path, tmp_path: Path) -> None:
    (tmp_path / "stead.toml").write_text("[project]\nname = 'x'\n")
    environ = {**os.environ, "STEAD_STORE": str(shelf.root), "STEAD_IMAGE_BASE": str(base)}
    environ["PYTHONPATH"] = os.pathsep.join(sys.path)

    def stead(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stead", "image", *arguments]
        return subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True)

    asked = ["build", "demand@1", "--platform", "amd64", "-o", "out.tar", "--dockerfile", "context", "--json"]
    done = stead(*asked)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["image"]["digest"] == built(shelf, base, tmp_path / "pool").digest
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert {"oci-layout", "index.json", "manifest.json"} <= set(tar.getnames())
    assert (tmp_path / "context" / "Dockerfile").is_file()
    again = stead(*asked)
    assert again.returncode == 2 and json.loads(again.stdout)["error"]["code"] == "folder-not-empty"
    missing = stead("build", "nothing")
    assert missing.returncode == 3 and "there is no model 'nothing'" in missing.stderr


@pytest.mark.parametrize(
    ("options", "settings", "code"),
    [
        (["--push", "x y"], {}, "reference-invalid"),
        (["--push", f"localhost:1/a@sha256:{'0' * 64}"], {}, "reference-invalid"),
        (["-o", "file"], {}, "target-taken"),
        (["-o", "folder.tar"], {}, "target-taken"),
        (["-o", "folder"], {}, "folder-not-empty"),
        (["--dockerfile", "file"], {}, "folder-not-empty"),
        (["-o", "new", "--dockerfile", "folder"], {}, "folder-not-empty"),
        (["--load"], {"STEAD_CONTAINER_ENGINE": "podman 'x"}, "setting-invalid"),
        (["--load"], {"STEAD_CONTAINER_OPTIONS": "'x"}, "setting-invalid"),
        (["--load"], {"STEAD_CONTAINER_ENGINE": "no-such-engine"}, "engine-missing"),
        (["--base", "file"], {}, "image-unknown"),
        (["-o", "file/new"], {}, "file-failed"),
        (["--push", "localhost:1/a:1"], {"SSL_CERT_FILE": "nowhere"}, "registry-unreachable"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    shelf: Store,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    settings: dict[str, str],
    code: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    for name in ("folder", "folder.tar"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    pool = images.pool(shelf).folder
    kept = sorted(pool.rglob("*"))
    environ = {"STEAD_STORE": str(shelf.root), "STEAD_IMAGE_BASE": str(base), **settings}
    done = CliRunner().invoke(cli, ["image", "build", "demand@1", "--platform", "amd64", *options], env=environ)
    assert isinstance(done.exception, SteadError) and done.exception.code == code, done.exception
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "file").read_text() == "mine"
    if code not in ("image-unknown", "file-failed", "registry-unreachable"):  # what can be told before it is built
        assert sorted(pool.rglob("*")) == kept
