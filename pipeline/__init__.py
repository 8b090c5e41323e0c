"""What happens to one photograph. Knows nothing of jobs, and of clusters only `runtime` does."""
