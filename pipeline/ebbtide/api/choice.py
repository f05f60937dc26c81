"""Choosing a bundle for a device, from bundles that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebbtide.device import Candidate, Choice, Facts

HOST = "host"


@dataclass(frozen=True)
class Chosen:
    """Which of several bundles a device gets.

    Attributes:
        choice: what was chosen and why.
        bundles: their folders, as given.
        candidates: what was read of each.
        facts: of the device.
        because: why, in words.
        left_out: for each bundle why it is not the one, in words; None for the one that is.
    """

    choice: Choice
    bundles: tuple[Path, ...]
    candidates: tuple[Candidate, ...]
    facts: Facts
    because: str
    left_out: tuple[str | None, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        chosen = self.candidates[self.choice.candidate]
        others = zip(self.bundles, self.choice.excluded, self.left_out, strict=True)
        return {
            "bundle": str(self.bundles[self.choice.candidate]),
            "name": chosen.name,
            "sequence": chosen.sequence,
            "profile": chosen.profile,
            **self.choice.as_dict(),
            "because": self.because,
            "left_out": [{"bundle": str(path), "code": code, "why": why} for path, code, why in others if why],
            "facts": self.facts.model_dump(mode="json", exclude_none=True),
        }


def choose(facts: Path | str, bundles: Sequence[Path], *, trusted: Sequence[Path] | None = None) -> Chosen:
    """Choose a bundle for a device as an application on it would; of each bundle the signed manifest is read alone.

    Args:
        facts: a JSON file, or ``host`` for this machine and the ExecuTorch that is installed.
        bundles: their folders.
        trusted: public keys, any one of which may have signed; by default this machine's development key.

    Raises:
        EbbtideError: ``device.facts``, ``device.no_bundle``, and ``bundle.*`` for a manifest that cannot be trusted.
    """
    from ebbtide.api import _trusted
    from ebbtide.bundle.candidate import candidate_of
    from ebbtide.bundle.reader import open_signed
    from ebbtide.device import choice_words, group_of, load_catalog, read_facts, why_left_out
    from ebbtide.device import choose as choose_candidate

    read = _host_facts() if facts == HOST else read_facts(Path(facts))
    keys, catalog = _trusted(trusted), load_catalog()
    candidates = tuple(candidate_of(open_signed(folder, keys).manifest) for folder in bundles)
    choice = choose_candidate(read, candidates, catalog)
    group = group_of(read, catalog.groups)
    others = [
        "could be used, but another one suits better" if code is None else why_left_out(code, candidate, read, group)
        for candidate, code in zip(candidates, choice.excluded, strict=True)
    ]
    return Chosen(
        choice=choice,
        bundles=tuple(bundles),
        candidates=candidates,
        facts=read,
        because=choice_words(choice, candidates[choice.candidate]),
        left_out=tuple(None if index == choice.candidate else why for index, why in enumerate(others)),
    )


def _host_facts() -> Facts:
    from ebbtide.device import host_facts
    from ebbtide.engine.registered import registered_backends
    from ebbtide.steps import library_versions

    version = library_versions(["executorch"])["executorch"]
    return host_facts(engine="executorch", runtime_version=version, backends=registered_backends())
