"""Ebbtide: one trained PyTorch classifier in, signed mobile bundles whose cost follows the phone out.

The package is a one-way street: each sub-package imports only those before it in
``docs/architecture.md``. Importing ``ebbtide`` imports nothing heavy.
"""

__version__ = "0.1.0"
