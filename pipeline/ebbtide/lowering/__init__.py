"""From modules to programs that a phone's runtime loads, and the proof that they decide alike."""

from ebbtide.lowering.backend import Backend, LoweredProgram, MethodFacts, TensorFacts, backend, backend_names
from ebbtide.lowering.capture import CapturedMethod, capture
from ebbtide.lowering.digest import spec_digest
from ebbtide.lowering.gate import GateReport, MethodGap, Scores, compare, decisions, gate
from ebbtide.lowering.programs import lower, lower_programs
from ebbtide.lowering.scoring import Scored
from ebbtide.lowering.spec import MethodSpec, ProgramSpec, eager_methods, fuse, methods_of

__all__ = [
    "Backend",
    "CapturedMethod",
    "GateReport",
    "LoweredProgram",
    "MethodFacts",
    "MethodGap",
    "MethodSpec",
    "ProgramSpec",
    "Scored",
    "Scores",
    "TensorFacts",
    "backend",
    "backend_names",
    "capture",
    "compare",
    "decisions",
    "eager_methods",
    "fuse",
    "gate",
    "lower",
    "lower_programs",
    "methods_of",
    "spec_digest",
]
