"""Bundles: the signed manifest, the payload, a deterministic writer, a safe reader, a store, and what changed."""
