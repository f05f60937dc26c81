"""Class-specific sparsity: a model for the classes that one user meets."""
