"""What happens to one photograph. Knows nothing of jobs, and of clusters only `runtime` does."""

__version__ = "0.1.0"
