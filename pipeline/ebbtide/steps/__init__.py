"""Content-addressed, resumable steps, and how long work tells of itself.

A build is a chain of steps. Each one's output is a folder stored under the hash of its inputs and of the
code that makes it, written to a temporary place and renamed, so that a killed build continues where it was,
an unchanged one does nothing, and a changed setting redoes only what depends on it.
"""

from ebbtide.steps.digest import canonical_json, code_digest, digest_json, file_digest, library_versions
from ebbtide.steps.folder import busy_lock, discard, replace_folder, storage_errors, sync_tree, write_bytes, write_json
from ebbtide.steps.progress import Progress, Task, silent
from ebbtide.steps.store import StepRecord, StepStore

__all__ = [
    "Progress",
    "StepRecord",
    "StepStore",
    "Task",
    "busy_lock",
    "canonical_json",
    "code_digest",
    "digest_json",
    "discard",
    "file_digest",
    "library_versions",
    "replace_folder",
    "silent",
    "storage_errors",
    "sync_tree",
    "write_bytes",
    "write_json",
]
