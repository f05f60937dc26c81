"""``file.py:name`` entries: the only code of the user's that Ebbtide runs, loaded in isolation.

A file is imported under a name of its own, made from its path and content, so that two recipes with
a ``model.py`` each, or an edited file in a running session, never meet. Modules beside the file can
be imported by it while it is loaded and while its function runs, and get names of their own too;
nothing stays on ``sys.path``. A sibling must not be named like a module of the standard library.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from ebbtide.errors import EbbtideError, nearest

_lock = threading.RLock()


@dataclass(frozen=True)
class CodeEntry:
    """A function in a file of the user's."""

    path: Path
    name: str

    def load(self) -> Callable[..., Any]:
        """Import the file and return its function.

        What the function raises comes out as ``recipe.code_error`` with the line of the user's file.

        Raises:
            EbbtideError: ``recipe.missing_file``, ``recipe.code_error`` if the file cannot be imported,
                ``recipe.code_name`` if it has no such function.
        """
        if not self.path.is_file():
            raise EbbtideError(
                "recipe.missing_file",
                f"The file {self.path} does not exist.",
                hint="Correct the path; it counts from the recipe's folder.",
                place=str(self.path),
            )
        folder, digest = self.path.parent, self.digest()
        unique = _unique_name(folder, digest, self.path.stem)
        with _siblings(folder, digest), _explained(self, "cannot be imported"):
            module = sys.modules.get(unique) or _import_file(unique, self.path)
        function = getattr(module, self.name, None)
        if not callable(function):
            raise self._no_function(module, found=function)

        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            with _siblings(folder, digest), _explained(self, "failed"):
                return function(*arguments, **keywords)

        return call

    def digest(self) -> str:
        """SHA-256 over the file and the files beside it that it imports, directly or through each other."""
        files = _imported_files(self.path)
        total = hashlib.sha256()
        for file in sorted(files, key=lambda file: file.relative_to(self.path.parent).as_posix()):
            name = file.relative_to(self.path.parent).as_posix()
            total.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return total.hexdigest()

    def _no_function(self, module: ModuleType, *, found: object) -> EbbtideError:
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        own = [name for name in known if getattr(vars(module)[name], "__module__", None) == module.__name__]
        close = nearest(self.name, own or known)
        return EbbtideError(
            "recipe.code_name",
            f"{self.path.name} has no function `{self.name}`.",
            expected=f"one of {', '.join(own)}" if own else "a function or class",
            found=None if found is None else f"`{self.name}` is a {type(found).__name__}",
            hint=f"Did you mean `{close}`?" if close else f"Define `{self.name}` in the file, or correct the name.",
            place=str(self.path),
        )


def code_entry(text: str, base: Path) -> CodeEntry:
    """Read ``file.py:name``; a relative file counts from `base`.

    Raises:
        EbbtideError: ``recipe.value`` if the text has another form.
    """
    file, _, name = text.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise EbbtideError(
            "recipe.value",
            f"`{text}` does not name a function in a file.",
            expected="file.py:name",
            hint="For example model.py:make_model.",
        )
    return CodeEntry((base / Path(file).expanduser()).resolve(), name)


def _unique_name(folder: Path, digest: str, module: str) -> str:
    key = hashlib.sha256(f"{folder}\0{digest}".encode()).hexdigest()[:16]
    return f"_ebbtide_user_{key}_{module}"


def _import_file(unique: str, path: Path) -> ModuleType:
    """Run a file as a module that stays in ``sys.modules`` under its unique name only."""
    locations = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(unique, path, submodule_search_locations=locations)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[unique]
        raise
    return module


class _SiblingFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules beside the user's file and gives them unique names."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder = folder
        self.digest = digest

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        file = _sibling_file(self.folder, fullname)
        if file is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=str(file), is_package=file.name == "__init__.py")

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        unique = _unique_name(self.folder, self.digest, spec.name)
        return sys.modules.get(unique) or _import_file(unique, Path(str(spec.origin)))

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to do: the module ran when it was made."""


def _sibling_file(folder: Path, module: str) -> Path | None:
    top = module.partition(".")[0]
    if top == "ebbtide" or top in sys.stdlib_module_names:
        return None
    base = folder.joinpath(*module.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


@contextmanager
def _siblings(folder: Path, digest: str) -> Iterator[None]:
    """Let modules in `folder` be imported by their plain names, and forget those names afterwards."""
    finder = _SiblingFinder(folder, digest)
    with _lock:
        hidden = {name: sys.modules.pop(name) for name in _plain_names(folder, set(sys.modules))}
        before = set(sys.modules)
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            for name in _plain_names(folder, set(sys.modules) - before):
                del sys.modules[name]
            sys.modules.update(hidden)


def _plain_names(folder: Path, modules: set[str]) -> list[str]:
    """Those of the loaded modules that go by the name of a file beside the user's, but are not installed."""
    beside = {entry.stem for entry in folder.iterdir()}
    return [
        name
        for name in modules
        if name.partition(".")[0] in beside
        and _sibling_file(folder, name) is not None
        and not _is_installed(sys.modules[name])
    ]


_INSTALLED = tuple({sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")})


def _is_installed(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return file is None or str(file).startswith(_INSTALLED)


@contextmanager
def _explained(entry: CodeEntry, what: str) -> Iterator[None]:
    """Turn what the user's code raises into an error with the user's own line."""
    try:
        yield
    except EbbtideError:
        raise
    except (Exception, SystemExit) as error:
        place, line = _user_line(error, error.__traceback__, entry.path)
        raise EbbtideError(
            "recipe.code_error",
            f"{entry.path.name}:{entry.name} {what}: {type(error).__name__}: {error}",
            found=line or None,
            hint="Correct the file; nothing of Ebbtide's is at fault where its own line is shown.",
            place=place,
            details={"traceback": "".join(traceback.format_exception(error))},
        ) from error


def _user_line(error: BaseException, trace: TracebackType | None, path: Path) -> tuple[str, str]:
    """``file:line`` and the text of the innermost line of the user's folder."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_relative_to(path.parent):
        return f"{error.filename}:{error.lineno}", (error.text or "").strip()
    own = [frame for frame in traceback.extract_tb(trace) if Path(frame.filename).is_relative_to(path.parent)]
    if not own:
        return str(path), ""
    return f"{own[-1].filename}:{own[-1].lineno}", own[-1].line or ""


def _imported_files(path: Path) -> set[Path]:
    folder, found, waiting = path.parent, {path}, [path]
    while waiting:
        for module in _imported_names(waiting.pop()):
            parts = module.split(".")
            for depth in range(1, len(parts) + 1):
                file = _sibling_file(folder, ".".join(parts[:depth]))
                if file is not None and file not in found:
                    found.add(file)
                    waiting.append(file)
    return found


def _imported_names(path: Path) -> set[str]:
    """Every module name that a file imports anywhere, ``from a import b`` as ``a`` and ``a.b``."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names
