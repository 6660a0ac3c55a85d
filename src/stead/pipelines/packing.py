"""A project's model and its code, packed so that a job can run anywhere."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

from stead.config import ModelConfig, Project
from stead.datasets import Contract, read_contract
from stead.errors import InvalidInput
from stead.pipelines.types import Spec
from stead.runtime import capture

CONTRACT = ".contract.toml"
DEFAULT_FILES = ("requirements.txt", "pyproject.toml")


def pack(project: Project, model: str, put_blob: Callable[[bytes | Path], str]) -> Spec:
    """Store the code of a model and describe it. Raises NotFound (`model-unknown`), InvalidInput."""
    config = project.model(model)
    lines, file = requirements(project, config)
    git, diff = capture.git(project.root)
    return Spec(
        project=project.name,
        model=model,
        entry=config.code,
        module=Path(config.code).with_suffix("").as_posix().replace("/", "."),
        files={
            str(path): put_blob((project.root / path).read_bytes())
            for path in local_files(project.root, Path(config.code))
        },
        target=config.target,
        time=config.time,
        loss=config.loss,
        label_delay=config.label_delay,
        dataset=config.dataset,
        timeout_s=config.timeout_s,
        python=project.python,
        requirements=lines,
        requirements_file={"name": file.name, "digest": put_blob(file.read_bytes())} if file else None,
        root=str(project.root),
        train_env=dict(config.train.env),
        train_requirements=list(config.train.requirements),
        threads=config.train.threads,
        seed=config.train.seed,
        order=config.train.order,
        executor=config.train.executor,
        resources=dict(config.train.resources),
        serve_env=dict(config.serve.env),
        serve_requirements=list(config.serve.requirements),
        serve_fast=config.serve.fast,
        train_image=config.train.image,
        serve_image=config.serve.image,
        window=config.window,
        gates=config.gates,
        ingest_overlap=config.ingest_overlap,
        owner=config.owner,
        importance=config.importance,
        loss_value=config.loss_value,
        currency=config.currency,
        contract=read_contract_file(project.root / f"{config.dataset}{CONTRACT}"),
        git=git | ({"diff": put_blob(diff.encode())} if diff else {}),
    )


def read_contract_file(path: Path) -> Contract | None:
    """What people wrote down of a dataset's rows; None where there is no such file. Raises InvalidInput (`contract-invalid`)."""
    return read_contract(path.read_text(encoding="utf-8"), path.name) if path.is_file() else None


def requirements(project: Project, config: ModelConfig) -> tuple[list[str], Path | None]:
    """What a model needs as lines or as a file; `[models.NAME.train] requirements` apart. Raises InvalidInput (`requirements-missing`)."""
    if isinstance(project.requirements, tuple):
        return list(project.requirements), None
    if project.requirements:
        file = (project.root / project.requirements).resolve()
        if not file.is_relative_to(project.root.resolve()) or not file.is_file():
            raise InvalidInput(
                "requirements-missing", f"stead.toml names {project.requirements!r}, which is no file of the project"
            )
        return [], file
    if "# /// script" in (project.root / config.code).read_text(encoding="utf-8"):
        return [], project.root / config.code
    for name in DEFAULT_FILES:
        if (project.root / name).is_file():
            return [], project.root / name
    raise InvalidInput(
        "requirements-missing",
        f"nothing says which packages {config.code} needs",
        hint='in stead.toml under [project]: requirements = ["pandas", "scikit-learn", "pyarrow"]',
    )


def local_files(root: Path, entry: Path) -> list[Path]:
    """The entry and every module of the project that it imports, directly or not, relative to `root`.

    Raises InvalidInput (`code-invalid`) with file and line where one is not Python.
    """
    found: dict[Path, None] = {}
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        try:
            tree = ast.parse((root / path).read_text(encoding="utf-8"), filename=str(path))
        except (SyntaxError, UnicodeDecodeError) as error:
            told = f", line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else f": {error}"
            raise InvalidInput("code-invalid", f"{root / path}{told}") from None
        for node in ast.walk(tree):
            for name in _imported(node, path):
                waiting.extend(_locate(root, name))
    return sorted(found)


def _imported(node: ast.AST, path: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = path.parts[: -node.level]
            base = ".".join([*package, *([base] if base else [])])
        return (
            [base, *(f"{base}.{alias.name}" for alias in node.names)] if base else [alias.name for alias in node.names]
        )
    return []


def _locate(root: Path, name: str) -> list[Path]:
    """Files of a dotted module inside the project, its packages' `__init__.py` included."""
    files = []
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        place = Path(*parts[:length])
        files += [p for p in (place.with_suffix(".py"), place / "__init__.py") if (root / p).is_file()]
    return files
