"""Times of methods and paths, measured so that they can be compared, and the facts of the machine beside them."""

from ebbtide.profiling.machine import MachineFacts, machine_facts
from ebbtide.profiling.programs import PathTarget, Target, chain_inputs, measure, method_call, path_call, path_targets
from ebbtide.profiling.record import Measurement, MeasurementRecord, PathMeasurement, parse_record
from ebbtide.profiling.results import Results, parse_results
from ebbtide.profiling.timing import (
    Comparison,
    Plan,
    Timing,
    compare,
    compare_timings,
    summarise,
    time_interleaved,
)

__all__ = [
    "Comparison",
    "MachineFacts",
    "Measurement",
    "MeasurementRecord",
    "PathMeasurement",
    "PathTarget",
    "Plan",
    "Results",
    "Target",
    "Timing",
    "chain_inputs",
    "compare",
    "compare_timings",
    "machine_facts",
    "measure",
    "method_call",
    "parse_record",
    "parse_results",
    "path_call",
    "path_targets",
    "summarise",
    "time_interleaved",
]
