"""Where a run happens: connecting to Ray, and sharing the machine among stages."""
