"""The session: predictions from any thread, switches from any thread, and nothing lost between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal

from ebbtide.bundle.manifest import ConfigurationEntry, Manifest
from ebbtide.data import InputSpec, preprocess
from ebbtide.engine import Array, Engine
from ebbtide.errors import EbbtideError
from ebbtide.runtime.background import Background
from ebbtide.runtime.configuration import Configuration, Visit, Watch, bind, programs_of, walk
from ebbtide.runtime.outside import answer
from ebbtide.runtime.pixels import pixels_of
from ebbtide.runtime.residency import Residency, Source, check_engine
from ebbtide.runtime.result import Result, Times
from ebbtide.runtime.server_stage import Link, Server, walk_to_server
from ebbtide.runtime.tiers import Tiers
from ebbtide.runtime.wire import digest_of

_clock = time.perf_counter_ns


@dataclass(frozen=True, slots=True)
class Current:
    """Which configuration is in force, and why."""

    configuration: str
    tier: int | None
    reason: str


class _Lease:
    """A configuration in force and how many predictions are running on it."""

    __slots__ = ("configuration", "running")

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.running = 0


class Session:
    """Runs a bundle.

    All methods may be called from any thread. A prediction uses the configuration in force when it began, to its end; a
    switch replaces the reference between two predictions and waits for none of them. Programs are never changed.

    Predictions go on while a switch loads. How smoothly is the engine's affair: ExecuTorch's Python bindings keep the
    interpreter to themselves while they load a method or run one, so here a prediction waits for at most one method
    (see `ExecuTorchLoaded`); the C++ runtime of the phones loads in a thread of its own.

    Args:
        source: an opened bundle, or anything with its manifest and a way to find its files.
        engine: what runs the programs. Its thread count is fixed before the first program is loaded, for the whole
            process: ExecuTorch keeps pointers into its one thread pool.
        configuration: the id to begin with; None for the first tier.
        residency: ``all`` loads the programs of every tier at once and keeps whatever is loaded, so that a switch is a
            swap of pointers; ``active`` keeps the programs of one configuration, and of two only while it switches.
        minimum_accuracy: a floor, 0 to 1, on what a configuration promises; tiers below it are clamped, see `Tiers`.
        warm_up: how often each method is run on zeros after its program was loaded, >= 0.
        server: an address, or a `Server`, that runs the steps which the bundle leaves to one; nothing is sent anywhere
            without it. The session runs these steps itself where the server gives no answer, and says so in the result.

    Raises:
        EbbtideError: ``runtime.configuration``, ``runtime.below_floor``, ``runtime.floor``, ``runtime.engine`` or
            ``bundle.runtime_version`` if the bundle is not for this engine, ``runtime.server``, what loading raises.
    """

    def __init__(
        self,
        source: Source,
        engine: Engine,
        *,
        configuration: str | None = None,
        residency: Literal["all", "active"] = "all",
        minimum_accuracy: float | None = None,
        warm_up: int = 1,
        server: Server | str | None = None,
    ) -> None:
        check_engine(source.manifest.runtime, engine)
        self._manifest = source.manifest
        self._engine_name = engine.name
        self._spec = input_spec(self._manifest)
        self._classes = self._manifest.model.classes
        self._outside = self._manifest.model.outside
        self._residency: Literal["all", "active"] = residency
        self._programs = Residency(source, engine, warm_up)
        self._bound_before: dict[str, Configuration] = {}
        self._tiers = Tiers(self._manifest, minimum_accuracy)
        self._switching = threading.Lock()
        self._background: Background[Current] = Background("ebbtide-switch")
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._running = 0
        self._closed = False
        entry, reason = self._first(configuration)
        self._link: Link | None = None
        try:
            if server is not None:
                known = Server(server) if isinstance(server, str) else server
                self._link = Link(known, digest_of(source), self._manifest)
            if residency == "all":
                for name in self._manifest.tiers:
                    self._bound(self._tiers.entry(name), reason="start")
            self._lease = _Lease(self._bound(entry, reason))
        except BaseException:
            self._programs.keep_only(())
            if self._link is not None:
                self._link.close()
            raise

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self._manifest

    @property
    def engine_name(self) -> str:
        """The name of the engine that runs the programs."""
        return self._engine_name

    @property
    def input(self) -> InputSpec:
        """How an image or a signal becomes what the programs take."""
        return self._spec

    @property
    def minimum_accuracy(self) -> float | None:
        """The accuracy floor in force."""
        return self._tiers.minimum_accuracy

    @property
    def current(self) -> Current:
        """The configuration that the next prediction will use."""
        configuration = self._lease.configuration
        return Current(configuration.id, configuration.tier, configuration.reason)

    def predict(self, image: Any, *, watch: Watch | None = None) -> Result:
        """Classify one image or signal.

        Args:
            image: a PIL image (its EXIF orientation is applied), a uint8 array (H, W) or (H, W, C) already upright, or
                for a signal bundle a float32 array (C, T).
            watch: may end the prediction at an exit; see `ebbtide.runtime.streams.Stream`, which is one.

        Raises:
            EbbtideError: ``runtime.input`` or what preprocessing refuses, ``runtime.closed``, ``runtime.output``, and
                what the engine raises.
        """
        start = _clock()
        tensor = preprocess(pixels_of(image, self._spec), self._spec)[None]
        return self._predict(tensor, start, _clock(), watch)

    def predict_tensor(self, tensor: Array, *, watch: Watch | None = None) -> Result:
        """Classify one input that is preprocessed already: float32, with or without the batch dimension of 1."""
        start = _clock()
        if tensor.ndim == len(self._spec.shape):
            tensor = tensor[None]
        return self._predict(tensor, start, start, watch)

    def switch(self, configuration_id: str, *, reason: str = "application") -> Current:
        """Put another configuration in force, loading what it needs beside what is running.

        If anything fails, the configuration in force stays. Returns once the next prediction will use the new one; with
        residency ``active``, once the programs that are no longer needed are closed.

        Args:
            configuration_id: one of the manifest's.
            reason: why, for results and logs.

        Raises:
            EbbtideError: ``runtime.configuration``, ``runtime.below_floor``, ``runtime.closed``, what loading raises.
        """
        with self._switching:
            entry = self._tiers.entry(configuration_id)
            self._tiers.refuse_below_floor(configuration_id)
            return self._replace(entry, reason)

    def switch_tier(self, tier: int, *, reason: str = "application") -> Current:
        """Put a tier in force, or the nearest one that the accuracy floor allows; the reason then says so.

        Raises:
            EbbtideError: ``runtime.tier`` if there is no such tier, ``runtime.closed``, and what loading raises.
        """
        with self._switching:
            allowed, clamped = self._tiers.clamp(tier)
            return self._replace(
                self._tiers.entry(self._tiers.id_of(allowed)), f"{reason}; {clamped}" if clamped else reason
            )

    def begin_switch(self, configuration_id: str, *, reason: str = "application") -> Future[Current]:
        """Begin a `switch` in a thread of its own and return at once, so that the caller goes on predicting.

        Switches begun here are made one after the other. One that still waits when a newer one is begun is cancelled:
        its future raises `concurrent.futures.CancelledError`, since loading what is already out of date helps nobody.

        Args:
            configuration_id: one of the manifest's.
            reason: why, for results and logs.

        Returns:
            What `switch` would have returned or raised.

        Raises:
            EbbtideError: at once ``runtime.configuration``, ``runtime.below_floor``, ``runtime.closed``.
        """
        self._refuse_closed()
        self._tiers.refuse_below_floor(self._tiers.entry(configuration_id).id)
        return self._background.submit(lambda: self.switch(configuration_id, reason=reason))

    def begin_switch_tier(self, tier: int, *, reason: str = "application") -> Future[Current]:
        """Begin a `switch_tier` in a thread of its own; see `begin_switch`.

        Raises:
            EbbtideError: at once ``runtime.tier``, ``runtime.closed``.
        """
        self._refuse_closed()
        self._tiers.clamp(tier)
        return self._background.submit(lambda: self.switch_tier(tier, reason=reason))

    def set_minimum_accuracy(self, minimum_accuracy: float | None) -> Current:
        """Set or lift the accuracy floor; a configuration in force that is below it is left for an allowed tier.

        Raises:
            EbbtideError: ``runtime.floor``; the floor in force then stays.
        """
        with self._switching:
            tiers = Tiers(self._manifest, minimum_accuracy)
            now = self._lease.configuration
            if not tiers.allows(now.id):
                allowed, clamped = tiers.clamp(now.tier if now.tier is not None else 0)
                name = tiers.id_of(allowed)
                why = clamped or f"{now.id} is below the application's floor of {minimum_accuracy}"
                self._replace(tiers.entry(name), f"floor; {why}")
            self._tiers = tiers
            return self.current

    @contextmanager
    def pinned(self) -> Iterator[Configuration]:
        """The configuration in force, kept usable to the end of the block whatever is switched meanwhile.

        With residency ``active`` a switch waits for the end of the block, so do not switch from inside it.
        """
        lease = self._enter()
        try:
            yield lease.configuration
        finally:
            self._leave(lease)

    def close(self) -> None:
        """Refuse new predictions, wait for those that are running, free the programs. A second close does nothing.

        A switch that is running is finished first; one that was begun and still waits is cancelled.
        """
        self._background.close()
        with self._switching:
            with self._lock:
                self._closed = True
                self._idle.wait_for(lambda: self._running == 0)
            self._programs.keep_only(())
            if self._link is not None:
                self._link.close()
                self._link = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _predict(self, tensor: Array, start: int, ready: int, watch: Watch | None) -> Result:
        lease = self._enter()
        try:
            configuration = lease.configuration
            if watch is not None:
                watch.begin(configuration)
            if configuration.handover is None:
                visit = walk(configuration.steps, tensor, watch)
            else:
                visit = walk_to_server(configuration, tensor, self._link, watch)
        finally:
            self._leave(lease)
        return self._result(lease.configuration, visit, start, ready)

    def _result(self, configuration: Configuration, visit: Visit, start: int, ready: int) -> Result:
        label, outside = answer(visit, self._outside)
        step = visit.step
        return Result(
            label=label,
            class_name=self._classes[label],
            confidence=visit.confidence,
            probabilities=visit.probabilities,
            logits=visit.logits,
            position=step.position,
            left_at=step.reference,
            outside=outside,
            configuration=configuration.id,
            tier=configuration.tier,
            reason=configuration.reason,
            times=Times(
                preprocess_us=(ready - start) / 1000,
                methods=tuple(
                    (done.reference, spent / 1000)
                    for done, spent in zip(configuration.steps, visit.times_ns, strict=False)
                ),
                total_us=(_clock() - start) / 1000,
                server_us=0.0 if visit.served is None else visit.served.spent_us,
            ),
            classes=self._classes,
            served=visit.served,
        )

    def _enter(self) -> _Lease:
        # Reading the reference and counting the prediction are one act, so no switch can close a program in between.
        with self._lock:
            self._refuse_closed()
            lease = self._lease
            lease.running += 1
            self._running += 1
            return lease

    def _leave(self, lease: _Lease) -> None:
        with self._lock:
            lease.running -= 1
            self._running -= 1
            if lease.running == 0 and (lease is not self._lease or self._closed):
                self._idle.notify_all()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise EbbtideError("runtime.closed", "The session is closed.", hint="open a new one")

    def _first(self, configuration: str | None) -> tuple[ConfigurationEntry, str]:
        if configuration is not None:
            self._tiers.refuse_below_floor(self._tiers.entry(configuration).id)
            return self._tiers.entry(configuration), "start"
        tier, clamped = self._tiers.clamp(0)
        return self._tiers.entry(self._tiers.id_of(tier)), f"start; {clamped}" if clamped else "start"

    def _bound(self, entry: ConfigurationEntry, reason: str) -> Configuration:
        """The configuration on loaded programs; bound once for as long as they stay."""
        known = self._bound_before.get(entry.id)
        if known is not None:
            return replace(known, reason=reason)
        self._programs.load(programs_of(entry))
        bound = bind(self._manifest, entry, self._programs.loaded, reason=reason)
        self._bound_before[entry.id] = bound
        return bound

    def _replace(self, entry: ConfigurationEntry, reason: str) -> Current:
        """Swap the lease; the caller holds the lock of the switches."""
        self._refuse_closed()
        if entry.id == self._lease.configuration.id:
            configuration = replace(self._lease.configuration, reason=reason)
        else:
            configuration = self._bound(entry, reason)
        with self._lock:
            self._lease = lease = _Lease(configuration)
            closes = self._residency == "active" and not self._programs.loaded.keys() <= set(configuration.programs)
            if closes:
                # Every prediction that is not on the new configuration may still be running in an old program.
                self._idle.wait_for(lambda: self._running == lease.running)
        if closes:
            self._bound_before = {configuration.id: configuration}
            self._programs.keep_only(configuration.programs)
        return Current(configuration.id, configuration.tier, configuration.reason)


def input_spec(manifest: Manifest) -> InputSpec:
    """A manifest's input as preprocessing takes it."""
    entry = manifest.model.input
    return InputSpec(
        kind=entry.kind,
        shape=entry.shape[1:],
        color=entry.color,
        scale=entry.scale,
        bias=entry.bias,
        crop=entry.crop,
        resize=entry.resize,
    )
