"""The C++ runner from Python: predictions through a process that has no interpreter in it, and its measurements.

The runner (``devices/runner``) does what a phone's SDK does, with ExecuTorch's own C++ runtime. ``make runner`` builds
it. Here it is a process that is handed arrays and answers with one line of JSON each; its README describes the stream.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ebbtide.bundle.signature import PublicKey
from ebbtide.engine import Array
from ebbtide.errors import CODES, EbbtideError
from ebbtide.profiling.results import Results, parse_results

VARIABLE: Final = "EBBTIDE_RUNNER"
"""Names a runner that lies somewhere else than where ``make runner`` puts it."""
_BUILT: Final = Path(__file__).resolve().parents[3] / "build" / "runner" / "ebbtide-runner"


def find_runner() -> Path:
    """The runner's file: ``$EBBTIDE_RUNNER``, else the one that ``make runner`` built in this checkout.

    Raises:
        EbbtideError: ``runtime.runner`` if there is none.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else _BUILT
    if not path.is_file():
        raise EbbtideError(
            "runtime.runner",
            "The C++ runner is not there.",
            expected="a program that `make runner` builds",
            hint=f"correct {VARIABLE}" if named else "make runner",
            place=named or "build/runner/ebbtide-runner",
        )
    return path


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A prediction of the runner's; the fields are those of `Result`, `methods_ns` the nanoseconds of each call."""

    label: int
    class_name: str
    confidence: float
    probabilities: Array
    logits: Array
    position: int
    left_at: str
    outside: bool | None
    methods_ns: tuple[tuple[str, int], ...]


class Runner:
    """A running runner with one bundle open. For one thread.

    Args:
        bundle: a raw or unpacked bundle's folder.
        configuration: the one to begin with; None for tier 0.
        threads: of the whole process.
        residency: as of `Session`.
        key: the public key that must have signed; None to leave the signature to whoever opened the bundle before.

    Raises:
        EbbtideError: ``runtime.runner``, and what the runner says of the bundle: ``bundle.*``, ``engine.*``,
            ``runtime.*``.
    """

    def __init__(
        self,
        bundle: Path,
        *,
        configuration: str | None = None,
        threads: int = 1,
        residency: Literal["all", "active"] = "all",
        key: Path | None = None,
    ) -> None:
        command = [str(find_runner()), "run", str(bundle), "--threads", str(threads)]
        command += [] if configuration is None else ["--configuration", configuration]
        command += [] if key is None else ["--key", str(key)]
        command += ["--active"] if residency == "active" else []
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said)
        try:
            self._current = self._read()
        except BaseException:
            self.close()
            raise

    @property
    def configuration(self) -> str:
        """The id of the configuration in force."""
        return str(self._current["configuration"])

    @property
    def tier(self) -> int | None:
        """The tier that names it, None if none does."""
        tier: int | None = self._current["tier"]
        return tier

    def predict(self, sample: npt.NDArray[Any]) -> Answer:
        """Classify a preprocessed input (float32 of the model's shape) or a picture (uint8, (H, W) or (H, W, C)).

        Raises:
            EbbtideError: ``runtime.input``, ``runtime.output``, ``data.*``, ``engine.failed``; the next sample may
                be right.
        """
        if sample.dtype not in (np.float32, np.uint8):
            raise EbbtideError(
                "runtime.input",
                "A sample has the wrong type.",
                expected="float32, preprocessed, or a picture of uint8",
                found=str(sample.dtype),
                place="sample",
            )
        array = io.BytesIO()
        np.save(array, np.ascontiguousarray(sample)[None], allow_pickle=False)
        # One at a time: neither side then writes while the other does, so no full pipe can stop both.
        try:
            self._stdin.write(array.getbuffer())
            self._stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return _answer(self._read())

    def predict_all(self, samples: Sequence[npt.NDArray[Any]] | npt.NDArray[Any]) -> Iterator[Answer]:
        """Classify samples one after the other; raises as `predict`."""
        for sample in samples:
            yield self.predict(sample)

    def switch(self, configuration: str) -> None:
        """Put another configuration in force.

        Raises:
            EbbtideError: ``runtime.configuration``, ``engine.*``; the one in force then stays.
        """
        self._request({"switch": configuration})

    def switch_tier(self, tier: int) -> None:
        """Put the configuration of a tier in force; raises ``runtime.tier``, and as `switch`."""
        self._request({"switch_tier": tier})

    def close(self) -> None:
        """End the process. A second close does nothing."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                with suppress(BrokenPipeError):  # it has ended already
                    stream.close()
        self._process.wait()
        self._said.close()

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _request(self, request: dict[str, Any]) -> None:
        try:
            self._stdin.write(json.dumps(request).encode() + b"\n")
            self._stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        self._current = self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise _error(answer["error"])
        return answer

    def _ended(self) -> EbbtideError:
        status = self._process.wait()
        self._said.seek(0)
        return _last_error(self._said.read(), status)


def run_bench(
    bundle: Path,
    inputs: npt.NDArray[Any] | None = None,
    *,
    configurations: Sequence[str] = (),
    threads: int = 1,
    rounds: int = 10,
    warm_up: int = 10,
    loads: int = 5,
    switches: int = 20,
    cool_down_ms: int = 0,
    key: PublicKey | None = None,
) -> Results:
    """Measure a bundle with the runner, in a process of its own.

    Args:
        bundle: a raw or unpacked bundle's folder.
        inputs: real samples, along the first axis: float32 preprocessed ones or uint8 pictures; None for one of zeros.
        configurations: ids; none for those of the tiers.
        threads: of the whole process.
        rounds: turns of each configuration, >= 1.
        warm_up: untimed predictions before each turn, >= 0.
        loads: loads of each configuration from nothing, >= 1.
        switches: switches of each kind, >= 0.
        cool_down_ms: rest before each turn, >= 0.
        key: the public key that must have signed; None to leave the signature to whoever opened the bundle before.

    Raises:
        EbbtideError: ``runtime.runner``, ``profiling.plan``, ``profiling.results``, and what the runner says of the
            bundle and the inputs.
    """
    plan = {"threads": threads, "rounds": rounds, "warm-up": warm_up, "loads": loads, "switches": switches}
    with tempfile.TemporaryDirectory(prefix="ebbtide-runner-") as place:
        output = Path(place) / "results.json"
        command = [str(find_runner()), "bench", str(bundle), "--output", str(output)]
        for name, number in {**plan, "cool-down-ms": cool_down_ms}.items():
            command += [f"--{name}", str(number)]
        for configuration in configurations:
            command += ["--configuration", configuration]
        if inputs is not None:
            np.save(Path(place) / "inputs.npy", inputs, allow_pickle=False)
            command += ["--inputs", str(Path(place) / "inputs.npy")]
        if key is not None:
            (Path(place) / "key.pem").write_bytes(key.pem())
            command += ["--key", str(Path(place) / "key.pem")]
        _run(command)
        return parse_results(output.read_bytes(), place="results.json")


def run_overhead(
    bundle: Path, sample: Array, *, configuration: str | None = None, rounds: int = 100, repeats: int = 50
) -> dict[str, Any]:
    """What the runner's prediction loop costs over bare method calls; see ``devices/runner/runner/overhead.hpp``.

    Args:
        bundle: a raw or unpacked bundle's folder.
        sample: one preprocessed input, float32, with a batch of one.
        configuration: None for tier 0.
        rounds: interleaved rounds, >= 1.
        repeats: timed passes of each kind in a round, >= 1.

    Raises:
        EbbtideError: as `run_bench`.
    """
    with tempfile.TemporaryDirectory(prefix="ebbtide-runner-") as place:
        inputs = Path(place) / "inputs.npy"
        np.save(inputs, sample, allow_pickle=False)
        command = [str(find_runner()), "overhead", str(bundle), "--inputs", str(inputs)]
        command += ["--rounds", str(rounds), "--repeats", str(repeats)]
        command += [] if configuration is None else ["--configuration", configuration]
        found: dict[str, Any] = json.loads(_run(command))
        return found


def _run(command: list[str]) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise _last_error(done.stderr, done.returncode)
    return done.stdout


def _answer(line: dict[str, Any]) -> Answer:
    return Answer(
        label=line["label"],
        class_name=line["class"],
        confidence=float(line["confidence"]),
        probabilities=_floats(line["probabilities"]),
        logits=_floats(line["logits"]),
        position=line["position"],
        left_at=line["left_at"],
        outside=line["outside"],
        methods_ns=tuple((method, spent) for method, spent in line["methods_ns"]),
    )


def _floats(values: Sequence[float | str]) -> Array:
    # Each is the double that equals a float32, so narrowing changes nothing; "nan" and "inf" are texts in JSON.
    return np.array([float(value) for value in values], dtype=np.float32)


def _last_error(said: bytes, status: int) -> EbbtideError:
    last = said.decode(errors="replace").strip().rpartition("\n")[2]
    try:
        return _error(json.loads(last)["error"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return EbbtideError(
            "runtime.runner", "The C++ runner ended without an answer.", found=f"status {status}: {last[:400]}"
        )


def _error(parts: dict[str, Any]) -> EbbtideError:
    code = parts["code"] if parts["code"] in CODES else "runtime.runner"
    kept = {name: parts[name] for name in ("expected", "found", "hint", "place")}
    return EbbtideError(code, parts["message"], **kept)
