"""Recordings of signals: JSON lines, written while a source is read, and read back strictly.

The first line is ``{"format":1,"kind":"signals","about":{...}}`` with what the recorder was told about the source; each
further line is one reading, with the names of `Signals`, absent ones left out, in the order of time.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn

from ebbtide.errors import EbbtideError
from ebbtide.runtime.policy_signals import Signals, signals_json, signals_of_json
from ebbtide.runtime.signals.protocol import SignalSource

FORMAT: Final = 1
MAX_LINE_BYTES: Final = 64 * 1024
"""A reading with every signal has less than 400 bytes."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What a file of readings holds: the recorder's facts about the source, and the readings in order."""

    about: Mapping[str, Any]
    readings: tuple[Signals, ...]


def read_recording(path: Path) -> Recording:
    """Read a recording whole.

    Raises:
        EbbtideError: ``signals.recording`` with ``file:line`` as place for anything that a recorder would not have
            written: a line that is no JSON object, a repeated or unknown key, a value that `Policy` would refuse, a
            time before the last, an end without a line break.
    """
    readings: list[Signals] = []
    about: Mapping[str, Any] | None = None
    try:
        with path.open("rb") as stream:
            number = 0
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                place = f"{path}:{number}"
                value = _object(line, place)
                if about is None:
                    about = _header(value, place)
                    continue
                reading = _reading(value, place)
                if readings and reading.t_ms < readings[-1].t_ms:
                    _refuse(f"The reading at {reading.t_ms} ms stands after one at {readings[-1].t_ms} ms.", place)
                readings.append(reading)
    except OSError as error:
        _refuse("The recording cannot be read.", str(path), found=error.strerror)
    if about is None:
        _refuse("The recording is empty.", str(path), expected="a header, then one reading a line")
    return Recording(about, tuple(readings))


class RecordedSource:
    """Gives the readings of a recording again, at the distances in time at which they were made.

    The first `read` is the moment of the first reading. Between two readings the earlier one holds, and its headroom
    ages; after the last, the last holds in the same way. Tells of no events: an event's reading is a line of its own,
    and the next `read` has it. To have a policy decide exactly as it did, step it through `Recording.readings` instead.

    Args:
        recording: a file's path, or what was read from it; with one reading at least.

    Raises:
        EbbtideError: ``signals.recording``.
    """

    def __init__(self, recording: Recording | Path) -> None:
        loaded = read_recording(recording) if isinstance(recording, Path) else recording
        if not loaded.readings:
            place = str(recording) if isinstance(recording, Path) else "readings"
            _refuse("The recording has no readings.", place, expected="one or more")
        self._readings = loaded.readings
        self._times = [reading.t_ms for reading in loaded.readings]
        self._shift_ms: int | None = None

    @property
    def duration_ms(self) -> int:
        """From the first reading to the last."""
        return self._times[-1] - self._times[0]

    def read(self, t_ms: int) -> Signals:
        """The reading that held at this time of the recording, as one made now."""
        if self._shift_ms is None:
            self._shift_ms = t_ms - self._times[0]
        then = max(t_ms - self._shift_ms, self._times[0])
        reading = self._readings[bisect_right(self._times, then) - 1]
        aged = reading.headroom_age_ms + then - reading.t_ms if reading.headroom_mh is not None else 0
        return replace(reading, t_ms=t_ms, headroom_age_ms=aged)

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Never calls back; see `SignalSource`."""
        return lambda: None

    def close(self) -> None:
        """Nothing is held."""


class Recorder:
    """A source that passes another one's readings on and writes each to a file.

    A reading that cannot be written is an error of `read`, so a recording is never silently one with gaps.

    Args:
        source: read, listened to and closed through this one.
        path: of the file, which must not exist.
        about: facts about the source for whoever reads the file: JSON values. No names of people, hosts or folders.

    Raises:
        EbbtideError: ``signals.recording`` if the file exists or cannot be made.
    """

    def __init__(self, source: SignalSource, path: Path, *, about: Mapping[str, Any] | None = None) -> None:
        self._source = source
        self._path = path
        try:
            self._stream = path.open("xb")
        except OSError as error:
            _refuse("The recording cannot be made.", str(path), found=error.strerror, expected="a new file")
        self._write({"format": FORMAT, "kind": "signals", "about": dict(about or {})})

    def read(self, t_ms: int) -> Signals:
        """Read the source and write the reading down.

        Raises:
            EbbtideError: ``signals.recording`` if it cannot be written, and what the source raises.
        """
        signals = self._source.read(t_ms)
        self._write(signals_json(signals))
        return signals

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Listen to the source."""
        return self._source.listen(callback)

    def close(self) -> None:
        """Close the file and the source."""
        self._stream.close()
        self._source.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, value: Mapping[str, Any]) -> None:
        line = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        try:
            self._stream.write(line)
            self._stream.flush()  # a crash then costs no reading that was made
        except (OSError, ValueError) as error:  # ValueError: it is closed
            _refuse("The recording cannot be written.", str(self._path), found=str(error))


def _object(line: bytes, place: str) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        found = "a line that is too long" if len(line) > MAX_LINE_BYTES else "a line that was cut off"
        hint = "Remove the last line if the recording was cut off."
        _refuse("The line has no end.", place, expected=f"at most {MAX_LINE_BYTES} bytes", found=found, hint=hint)
    try:
        value = json.loads(line.decode("utf-8"), object_pairs_hook=_once, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        _refuse("The line is not strict JSON.", place, found=str(error)[:120])
    if not isinstance(value, dict):
        _refuse("The line is not a JSON object.", place, found=type(value).__name__)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _header(value: dict[str, Any], place: str) -> Mapping[str, Any]:
    about = value.get("about")
    if value.keys() != {"format", "kind", "about"} or value["kind"] != "signals" or not isinstance(about, dict):
        _refuse("The first line is not the header of a recording of signals.", place, found=ascii(value)[:120])
    if type(value["format"]) is not int or value["format"] != FORMAT:
        _refuse(
            "The recording has a format that is not known.", place, expected=str(FORMAT), found=ascii(value["format"])
        )
    return about


def _reading(value: dict[str, Any], place: str) -> Signals:
    try:
        return signals_of_json(value)
    except EbbtideError as error:
        field = f": {error.place}" if error.place else ""
        _refuse(error.message, place + field, expected=error.expected, found=error.found, hint=error.hint)


def _refuse(
    message: str, place: str, *, expected: str | None = None, found: str | None = None, hint: str | None = None
) -> NoReturn:
    raise EbbtideError("signals.recording", message, expected=expected, found=found, hint=hint, place=place)
