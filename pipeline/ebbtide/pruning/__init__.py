"""Physical removal: channels taken out by an exact allocation, so that a plain smaller graph is left."""

from ebbtide.pruning.removal import Allocation, Removed, check_budget, least_share, remove_channels

__all__ = ["Allocation", "Removed", "check_budget", "least_share", "remove_channels"]
