"""The patterns of sparsity, a file each; every module names what makes its pattern ``TYPE``."""
