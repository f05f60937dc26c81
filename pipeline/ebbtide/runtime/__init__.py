"""The reference runtime: sessions that predict and switch from any thread or adapt, evaluation, bench, and inputs."""

from ebbtide.runtime.adaptive import AdaptiveSession
from ebbtide.runtime.bench import BenchReport, ConfigurationBench, Overhead, bench, session_overhead
from ebbtide.runtime.configuration import Configuration, Step, Visit, bind, walk
from ebbtide.runtime.evaluate import Evaluation, evaluate, run_path
from ebbtide.runtime.inputs import Inputs, load_inputs
from ebbtide.runtime.outside import answer, energy, strangeness
from ebbtide.runtime.policy import Decision, Policy, PolicyState, Signals
from ebbtide.runtime.residency import Source
from ebbtide.runtime.result import Ranked, Result, Scene, Served, Times
from ebbtide.runtime.scenes import StreamSettings
from ebbtide.runtime.server_stage import Server
from ebbtide.runtime.session import Current, Session, input_spec
from ebbtide.runtime.streams import Stream

__all__ = [
    "AdaptiveSession",
    "BenchReport",
    "Configuration",
    "ConfigurationBench",
    "Current",
    "Decision",
    "Evaluation",
    "Inputs",
    "Overhead",
    "Policy",
    "PolicyState",
    "Ranked",
    "Result",
    "Scene",
    "Served",
    "Server",
    "Session",
    "Signals",
    "Source",
    "Step",
    "Stream",
    "StreamSettings",
    "Times",
    "Visit",
    "answer",
    "bench",
    "bind",
    "energy",
    "evaluate",
    "input_spec",
    "load_inputs",
    "run_path",
    "session_overhead",
    "strangeness",
    "walk",
]
