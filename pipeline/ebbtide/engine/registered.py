"""The backends of the ExecuTorch that is installed here, in the manifest's words."""

from __future__ import annotations


def registered_backends() -> list[str]:
    """The names of the backends that are built in and can be used, sorted.

    The manifest's word is ExecuTorch's own name without its ending, in lower case: ``XnnpackBackend`` is ``xnnpack``.
    Loads ExecuTorch.
    """
    from executorch.runtime import Runtime

    registry = Runtime.get().backend_registry
    usable = (name for name in registry.registered_backend_names if registry.is_available(name))
    return sorted(name.removesuffix("Backend").lower() for name in usable)
