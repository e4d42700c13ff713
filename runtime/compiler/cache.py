"""Compiled models on disk.

An entry is one file, named by everything that the machine code depends on: the model, its states, the options, the
processor, and the sources of the compiler. It is written beside its place and moved there, so that no process ever sees
half of one, and it carries a checksum: what is damaged is compiled again, never run. The folder is closed to other
users, because what lies in it is executed. One process compiles an entry while others wait for it. Where nothing can
be kept, the model runs all the same, and it is told why.
"""

import contextlib
import hashlib
import io
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import numpy as np

from ..bundle import Bundle
from .compiled import Compiled, Options, RingSlot, Slot, StateSlot
from .target import Target, host_target

MAGIC = b"hearloop compiled model 2\n"
DIGEST_BYTES = 32
LARGEST_FOLDER_BYTES = 1 << 30
LEFT_OVER_S = 24 * 3600
LONGEST_WAIT_S = 300.0  # for another process that compiles the same; after that the work is done twice
WAIT_S = 0.05


@dataclass(frozen=True)
class Entry:
    """A compiled model in the cache folder; `name` is the model's, or nothing if the file is damaged."""

    path: Path
    name: str
    size: int
    age_s: float


def cache_folder() -> Path:
    """`$HEARLOOP_CACHE`, or a folder in the user's cache."""
    given = os.environ.get("HEARLOOP_CACHE")
    if given:
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hearloop"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "hearloop" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hearloop"


@cache
def _compiler_digest() -> str:
    """Of the compiler's own sources: a changed compiler never meets code of an older one."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def entry_path(bundle: Bundle, options: Options, target: Target | None = None) -> Path:
    """Where the compiled form of a model lies, or would."""
    states = [(state.name, state.next, state.initial, state.axis) for state in bundle.info.states]
    key = {
        "model": hashlib.sha256(bundle.model).hexdigest(),
        "states": states,
        "options": asdict(options),
        "target": asdict(target or host_target()),
        "compiler": _compiler_digest(),
        "llvmlite": metadata.version("llvmlite"),
    }
    return cache_folder() / (hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32] + ".bin")


def lookup(bundle: Bundle, options: Options, target: Target | None = None) -> Compiled | None:
    """The compiled form of a model, if there is a whole one."""
    path = entry_path(bundle, options, target)
    if not _is_private(path.parent):
        return None
    try:
        content = path.read_bytes()
        return _unpack(content, path.stem)
    except (OSError, ValueError, KeyError, EOFError):
        return None


def fetch(
    bundle: Bundle,
    options: Options,
    target: Target | None = None,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
    complain: Callable[[str], None] = lambda reason: None,
) -> Compiled:
    """The compiled form of a model, from the cache or compiled now; `complain` is told why it cannot be kept."""
    found = lookup(bundle, options, target)
    if found is not None:
        return found
    path = entry_path(bundle, options, target)
    with _alone(path.with_suffix(".lock")):
        found = lookup(bundle, options, target)  # another process may have made it meanwhile
        if found is not None:
            return found
        compiled = _compile(bundle, options, target, progress)
        try:
            _write(path, _pack(compiled, bundle.info.name, path.stem))
        except OSError as error:  # a full or read-only disk, an open folder: it is compiled again next time
            complain(f"the compiled model cannot be kept in {path.parent} ({error})")
        return compiled


def entries() -> list[Entry]:
    """What lies in the cache, the newest first."""
    found = []
    for path in cache_folder().glob("*.bin"):
        with contextlib.suppress(OSError):  # another process may remove it now
            facts = path.stat()
            found.append(Entry(path, _name(path), facts.st_size, time() - facts.st_mtime))
    return sorted(found, key=lambda entry: entry.age_s)


def clear() -> int:
    """Empty the cache; returns how many compiled models it had."""
    found = entries()
    for pattern in ("*.bin", "*.part", "*.lock"):
        for path in cache_folder().glob(pattern):
            path.unlink(missing_ok=True)
    return len(found)


def _compile(
    bundle: Bundle, options: Options, target: Target | None, progress: Callable[[str, float], None]
) -> Compiled:
    from .compile import compile_model  # needs onnx, which a stream that finds its code does not

    states = {state.name: state.next for state in bundle.info.states}
    initial = {state.name: state.initial for state in bundle.info.states}
    rings = {state.name: state.axis for state in bundle.info.states if state.axis is not None}
    return compile_model(bundle.model, states, initial, target, options, progress, rings)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time compile an entry; the system frees the lock of one that is killed.

    Without locks, after a long wait, on a disk that cannot be written or another system, the work may be done twice,
    which harms nobody.
    """
    try:
        import fcntl  # exists on Unix only

        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(path.parent):  # what is opened there for writing might be a link to something else
            raise PermissionError
        file = path.open("wb")
    except (ImportError, OSError):
        yield
        return
    with file:
        end = monotonic() + LONGEST_WAIT_S
        while monotonic() < end:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                sleep(WAIT_S)
            except OSError:  # a disk without locks
                break
        yield


def _is_private(folder: Path) -> bool:
    """Whether nobody else could put something there for us to run."""
    if not hasattr(os, "geteuid"):
        return True
    try:
        found = folder.stat()
    except OSError:
        return True  # there is nothing to be read
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_private(path.parent):
        raise PermissionError(f"{path.parent} can be written by others")
    _make_room(path.parent, len(content))
    for left in path.parent.glob(f"{path.stem}.*.part"):  # of a process that was killed: only one writes an entry
        left.unlink(missing_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _make_room(folder: Path, size: int) -> None:
    """Let the oldest entries go when there are too many, and what killed processes have left."""
    for path in (*folder.glob("*.part"), *folder.glob("*.lock")):
        with contextlib.suppress(OSError):
            if time() - path.stat().st_mtime > LEFT_OVER_S:
                path.unlink()
    entries = sorted(folder.glob("*.bin"), key=lambda path: path.stat().st_mtime)
    total = size + sum(path.stat().st_size for path in entries)
    for path in entries:
        if total <= LARGEST_FOLDER_BYTES:
            break
        total -= path.stat().st_size
        path.unlink(missing_ok=True)


def _digest(key: str, payload: bytes) -> bytes:
    """Over the key too, so that an entry under the name of another one is refused."""
    return hashlib.sha256(key.encode() + payload).digest()


def _name(path: Path) -> str:
    """Of the model in an entry."""
    try:
        return str(_description(_payload(path.read_bytes(), path.stem))["name"])
    except (OSError, ValueError):
        return ""


def _pack(compiled: Compiled, name: str, key: str) -> bytes:
    description = {
        "name": name,
        "memory_size": compiled.memory_size,
        "inputs": {name: asdict(slot) for name, slot in compiled.inputs.items()},
        "outputs": {name: asdict(slot) for name, slot in compiled.outputs.items()},
        "rings": [asdict(ring) for ring in compiled.rings],
        "states": [[name, slot.next, list(slot.shape), slot.dtype] for name, slot in compiled.states.items()],
        "plan": compiled.plan,
    }
    arrays: dict[str, Any] = {
        "description": np.frombuffer(json.dumps(description).encode(), np.uint8),
        "object_code": np.frombuffer(compiled.object_code, np.uint8),
        "constants": compiled.constants,
    }
    for index, slot in enumerate(compiled.states.values()):
        arrays |= {f"places{index}": slot.places, f"rings{index}": slot.rings}
    room = io.BytesIO()
    np.savez(room, **arrays)
    payload = room.getvalue()
    return MAGIC + _digest(key, payload) + payload


def _payload(content: bytes, key: str) -> bytes:
    """Raises ValueError if anything is not as it was written."""
    payload = content[len(MAGIC) + DIGEST_BYTES :]
    if not content.startswith(MAGIC) or _digest(key, payload) != content[len(MAGIC) :][:DIGEST_BYTES]:
        raise ValueError("damaged")
    return payload


def _description(payload: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        found: dict[str, Any] = json.loads(arrays["description"].tobytes())
        return found


def _unpack(content: bytes, key: str) -> Compiled:
    with np.load(io.BytesIO(_payload(content, key)), allow_pickle=False) as arrays:
        description = json.loads(arrays["description"].tobytes())
        states = {
            name: StateSlot(following, tuple(shape), arrays[f"places{index}"], arrays[f"rings{index}"], dtype)
            for index, (name, following, shape, dtype) in enumerate(description["states"])
        }
        return Compiled(
            object_code=arrays["object_code"].tobytes(),
            constants=arrays["constants"],
            memory_size=description["memory_size"],
            inputs={name: _slot(slot) for name, slot in description["inputs"].items()},
            outputs={name: _slot(slot) for name, slot in description["outputs"].items()},
            states=states,
            rings=[RingSlot(**ring) for ring in description["rings"]],
            plan=description["plan"],
        )


def _slot(stored: dict[str, Any]) -> Slot:
    return Slot(stored["offset"], tuple(stored["shape"]), stored["dtype"])
