"""What the benchmarks share: rounds in turn, the floor, reports, plots. No benchmark of its own."""
