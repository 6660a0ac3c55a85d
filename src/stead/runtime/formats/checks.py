"""What the files of a model are, held against what its description says, without executing any of them.

`portable.py` is copied into models with this file in front of it, so it must not import anything but the standard library.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickletools
import re
import zipfile
from typing import Any


class NotAsSaid(Exception):
    """A file of the model is not what the model's description says of it; nothing of it was executed."""


class CutOff(NotAsSaid):
    """A pickle that cannot be read to its end."""


MAGIC = {
    b"\x80": "a pickle",
    b"PK\x03\x04": "a zip archive",
    b"CBM1": "a CatBoost model",
    b"tree\n": "a LightGBM model",
    b"{L": "an XGBoost model",
}
STARTS = {
    "skops": (b"PK\x03\x04",), "cbm": (b"CBM1",), "native": (b"tree",), "ubj": (b"{L", b"{l", b"{i", b"{I"), "pt2": (b"PK\x03\x04",),
}  # fmt: skip
"""How the files of a format begin; a pickle of protocol 0 or 1 may begin with anything."""


def check_files(folder: str, config: dict[str, Any]) -> None:
    """Hold the model's files against what its description says, without executing any of them. Raises NotAsSaid."""
    path = os.path.join(folder, config["data"]) if config.get("data") else folder
    if not os.path.exists(path):
        raise NotAsSaid(f"the model's file {config['data']} is missing")
    for name, digest in (config.get("sha256") or {}).items():
        with open(os.path.join(folder, name), "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise NotAsSaid(f"{name} is not the file that was saved: it was cut off or changed")
    how = config.get("format")
    if config.get("loader_module") or os.path.isdir(path):
        inside = [os.path.join(place, name) for place, _, names in os.walk(path) for name in names]
        for each in [path] if os.path.isfile(path) else inside:
            if each.endswith((".pkl", ".pth", ".pickle")):
                check_pickle(each)
            elif each.endswith(".pt2"):
                check_start(each, "pt2")
                check_torch_archive(each)
        return
    check_start(path, how)
    if how in ("pickle", "cloudpickle"):
        check_pickle(path)
    elif how == "pt2":
        check_torch_archive(path)
    elif how == "native":
        _check_trees(path)


def _check_trees(path: str) -> None:
    """LightGBM ends the process where its text ends too early."""
    with open(path, "rb") as file:
        data = file.read()
    if b"\nend of trees" not in data or (b"\nparameters:" in data and b"\nend of parameters" not in data):
        raise NotAsSaid(f"{os.path.basename(path)} is a LightGBM model that was cut off")


def check_start(path: str, how: str | None) -> None:
    with open(path, "rb") as file:
        check_bytes(os.path.basename(path), how, file.read(8))


def check_bytes(name: str, how: str | None, data: bytes) -> None:
    """Hold the first bytes of a file against the format that it is said to have. Raises NotAsSaid."""
    wanted = STARTS.get(how or "")
    if not data or (wanted and not data.startswith(wanted)) or (how in OWN_FORMATS and data[:1] == b"\x80"):
        found = next((what for magic, what in MAGIC.items() if data.startswith(magic)), "something else")
        raise NotAsSaid(f"{name} is said to have the format {how}, and holds {found if data else 'nothing'}")


OWN_FORMATS = ("skops", "cbm", "native", "ubj", "json", "xgb", "onnx", "pt2", "safetensors")
"""Formats that are no pickle."""


STARTERS = re.compile(
    r"(os|posix|nt)\.(system|popen|exec\w*|spawn\w*|posix_spawn\w*|fork\w*|startfile|remove|unlink|rmdir|removedirs|kill|killpg)"
    r"|(subprocess|pty|socket|runpy|ctypes|code|codeop|webbrowser|pip|http|urllib|ftplib|smtplib|importlib|imp|pdb|timeit)(\..+)?"
    r"|(builtins|__builtin__)\.(eval|exec|execfile|compile|__import__|open|breakpoint|input|globals)"
    r"|(shutil)\.(rmtree|move|copy\w*|chown)|(asyncio|multiprocessing)\.\w*(subprocess|Process|Popen)\w*"
)
"""What no model needs in order to be read: programs, files, sockets, code given as text."""


def check_pickle(path: str) -> None:
    with open(path, "rb") as file:
        check_pickled(os.path.basename(path), file.read())


def check_pickled(name: str, data: bytes) -> None:
    """Refuse a pickle that names what starts programs. It is no sandbox: what a pickle's own code does shows when it runs.

    Raises NotAsSaid.
    """
    if data.startswith(b"PK\x03\x04"):  # PyTorch's: a pickle in an archive
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = b"".join(archive.read(each) for each in archive.namelist() if each.endswith("data.pkl"))
    for found in sorted(pickled_names(data, name)):
        if STARTERS.fullmatch(found):
            raise NotAsSaid(f"{name} would call {found} when it is read, which no model does: it was not read")


def check_torch_archive(path: str) -> None:
    """Refuse an exported program in which a pickle names anything but tensors: PyTorch would execute it."""
    name = os.path.basename(path)
    try:
        with zipfile.ZipFile(path) as archive:
            raw = _raw_tensors(archive)
            for each in archive.namelist():
                data = b"" if each in raw else archive.read(each)
                if data.startswith(b"PK\x03\x04"):
                    with zipfile.ZipFile(io.BytesIO(data)) as inner:
                        data = b"".join(inner.read(part) for part in inner.namelist() if part.endswith("data.pkl"))
                elif not (data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
                    continue
                for found in sorted(pickled_names(data, name)):
                    if not re.fullmatch(r"(torch|torch\._utils|torch\.storage|collections)\.\w+", found):
                        raise NotAsSaid(f"{name} would call {found} when it is read: it was not read")
    except zipfile.BadZipFile:
        raise NotAsSaid(f"{name} is no exported program, or one that is cut off") from None


def _raw_tensors(archive: zipfile.ZipFile) -> set[str]:
    """Records that the archive says are the bytes of a tensor, which PyTorch does not unpickle."""
    found = set()
    for each in archive.namelist():
        if re.search(r"/data/(weights|constants)/[^/]+_config\.json$", each):
            told = json.loads(archive.read(each)).get("config", {}).values()
            place = each.rpartition("/")[0]
            found |= {f"{place}/{entry['path_name']}" for entry in told if entry.get("use_pickle") is False}
    return found


def pickled_names(data: bytes, where: str) -> set[str]:
    """`module.name` of all that a pickle refers to, read without executing it. Raises NotAsSaid where it is none.

    >>> import pickle
    >>> sorted(pickled_names(pickle.dumps([dict, os.getcwd]), "model.pkl"))
    ['builtins.dict', 'posix.getcwd']
    """
    found: set[str] = set()
    memo: dict[int, str | None] = {}
    pushed: list[str | None] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name in ("GLOBAL", "INST"):
                found.add(str(argument).replace(" ", "."))
                pushed.append(None)
            elif name == "STACK_GLOBAL":
                module, attribute = pushed[-2:]
                if module is None or attribute is None:
                    raise NotAsSaid(f"{where} hides what it would call when it is read: it was not read")
                found.add(f"{module}.{attribute}")
                inner = attribute.split(".")  # `os.system`, by way of a module that has imported os
                found |= {".".join(inner[start:]) for start in range(len(inner) - 1)}
                pushed = [None]
            elif name == "MEMOIZE":
                memo[len(memo)] = pushed[-1] if pushed else None
            elif name.endswith("PUT"):
                memo[int(argument or 0)] = pushed[-1] if pushed else None
            elif name.endswith("GET"):
                pushed.append(memo.get(int(argument or 0)))
            elif name not in ("PROTO", "FRAME"):
                pushed.append(argument if isinstance(argument, str) else None)
    except (ValueError, IndexError, TypeError, KeyError) as error:
        raise CutOff(f"{where} is no pickle, or one that is cut off: {error}") from None
    return found
